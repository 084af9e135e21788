"""What the command line's references come to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgewright.cli._refs import load_bundle_task
from edgewright.core import ModelSpec, Preprocessing, Segment, TensorSpec

RECIPE = Preprocessing(channels=3, height=4, width=4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))


def model() -> ModelSpec:
    spec = TensorSpec(name="x", dtype="float32", shape=(None, 3, 4, 4))
    segment = Segment(file="segments/0.onnx", sha256="", size_bytes=0, macs=4, energy_mj=0.1,
                      ram_bytes=8)
    return ModelSpec(name="tiny", inputs=(spec,), outputs=(spec,), segments=(segment,),
                     preprocessing=RECIPE)


def test_a_folder_of_one_word_is_normalised_as_the_bundle_was(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``imagefolder:photos`` was once taken for the function ``photos`` of a module."""
    pytest.importorskip("datasets")
    for split in ("train", "test"):
        for index, label in enumerate(("cat", "dog")):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for number in range(2):
                pixels = np.full((4, 4, 3), 60 * index + number, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    task = load_bundle_task("imagefolder:photos", model())
    assert task.preprocessing == RECIPE
    assert task.name == "photos"
    want = RECIPE.normalize(np.full((1, 3, 4, 4), 60, dtype=np.uint8))
    assert np.allclose(task.test.select([2]).example()[0].numpy(), want)


def test_a_factory_normalises_for_itself(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\nfrom edgewright.task import Task\n\n\ndef make():\n"
        "    x, y = torch.rand(9, 2), torch.arange(9) % 2\n    return Task((x, y), test=(x, y))\n")
    assert load_bundle_task(f"{tmp_path}/own.py:make", model()).preprocessing is None
