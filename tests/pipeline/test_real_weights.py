"""Third-party weights on CIFAR-10; skipped where they are not at hand."""

from __future__ import annotations

from pathlib import Path

import edgewright as ew
from edgewright.pipeline import Recipe
from edgewright.task import Task, load_model, load_task

ROOT = Path(__file__).parent.parent.parent
IMAGES = 2000


def test_the_fast_recipe_keeps_the_accuracy_of_published_weights(shared: Path,
                                                                 tmp_path: Path) -> None:
    model = load_model(f"{ROOT / 'examples' / 'resnet.py'}:resnet20",
                       shared / "models" / "resnet20-cifar10.safetensors")
    whole = load_task(f"cifar10:{shared / 'data' / 'cifar10'}", normalize="imagenet")
    task = Task(whole.train.sample(512), whole.val.sample(256), whole.test.select(range(IMAGES)),
                classes=whole.classes, name="cifar10")
    recipe = Recipe(name="fast", quantize=ew.Quantization(calibration_samples=512))
    result = ew.compress(model, task, ew.Budget(size="400 kB", max_drop="1 %"), recipe,
                         tmp_path / "run", quiet=True)
    result.check()
    figures = result.manifest.report
    assert abs(figures.original["accuracy"] - 0.9173) < 0.015  # 2,000 of the 10,000 images
    assert figures.original["accuracy"] - figures.compressed["accuracy"] < 0.006
    assert figures.compressed["size_bytes"] < 0.3 * figures.original["size_bytes"]
    assert figures.parity is not None
    assert figures.parity.agreement > 0.995
    assert {layer.weight_bits for layer in figures.layers} == {8}
