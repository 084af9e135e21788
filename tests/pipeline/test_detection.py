"""A detector of squares, from training to a proved file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgewright as ew

SIZE = 32


def load_example() -> Any:
    spec = importlib.util.spec_from_file_location(
        "detector", Path(__file__).parents[2] / "examples" / "detector.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw_squares(count: int, seed: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Images with up to two squares, red ones and green ones, and their boxes."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.1 * torch.randn(count, 3, SIZE, SIZE, generator=generator)
    targets = []
    for image in images:
        squares = int(torch.randint(0, 3, (1,), generator=generator))
        boxes, labels = torch.zeros(squares, 4), torch.randint(0, 2, (squares,), generator=generator)
        for box, label in zip(boxes, labels.tolist(), strict=True):
            side = int(torch.randint(8, 16, (1,), generator=generator))
            left, top = torch.randint(0, SIZE - side, (2,), generator=generator).tolist()
            image[label, top:top + side, left:left + side] += 1.5
            box[:] = torch.tensor([left, top, left + side, top + side])
        targets.append({"boxes": boxes, "labels": labels})
    return images, targets


class TinyDetector(nn.Module):
    """One feature map of stride 8, with distributions over four distances."""

    centers: Tensor
    bins: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels_in, channels, stride in ((3, 8, 2), (8, 16, 2), (16, 32, 2), (32, 32, 1)):
            layers += [nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False),
                       nn.BatchNorm2d(channels), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.distances, self.scores = nn.Conv2d(32, 16, 1), nn.Conv2d(32, 2, 1)
        row, column = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
        self.register_buffer("centers", 8 * torch.stack([column, row], dim=2).flatten(0, 1) + 4.0)
        self.register_buffer("bins", torch.arange(4.0))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.features(x)
        distances, scores = (head(features).flatten(2).transpose(1, 2)
                             for head in (self.distances, self.scores))
        shares = distances.reshape(-1, 16, 4, 4).softmax(dim=3)
        lengths = 8 * (shares * self.bins).sum(dim=3)
        boxes = torch.cat([self.centers - lengths[..., :2], self.centers + lengths[..., 2:]], dim=2)
        return {"boxes": boxes, "scores": scores, "distances": distances}


@pytest.fixture(scope="module")
def detector() -> tuple[ew.Program, ew.Task]:
    pytest.importorskip("pycocotools")
    task = ew.Task(draw_squares(160, 0), draw_squares(32, 1), draw_squares(32, 2),
                   goal=ew.Detection(strides=(8,)))
    torch.manual_seed(0)
    program = ew.Program.capture(TinyDetector(), task.train.example(2))
    training = ew.Training(epochs=15, batch_size=8, lr=0.01, optimizer="adamw")
    return ew.fit(program, task, training), task


def test_a_detector_becomes_a_file_that_finds_the_same_boxes(
        detector: tuple[ew.Program, ew.Task], tmp_path: Path) -> None:
    program, task = detector
    result = ew.compress(program, task, recipe="fast", out=tmp_path, quiet=True)
    report = result.manifest.report
    assert report.original["map50"] > 0.5
    assert report.compressed["map50"] >= 0.95 * report.original["map50"]
    assert report.compressed["size_bytes"] < report.original["size_bytes"] / 2
    assert report.parity is not None
    assert [output.name for output in report.parity.outputs] == ["boxes", "scores"]
    assert report.parity.agreement > 0.95
    assert report.parity.outputs[0].decision.startswith("same boxes")
    assert result.manifest.model.structure == {"boxes": "boxes", "scores": "scores"}


def test_a_search_finds_a_detector_of_a_third_of_the_size(
        detector: tuple[ew.Program, ew.Task], tmp_path: Path) -> None:
    program, task = detector
    training = ew.Training(epochs=1, time=60, batch_size=16, lr=0.001, optimizer="adamw")
    search = ew.Search(training=training, quantized_training=training, samples=16, candidates=1)
    result = ew.compress(program, task, ew.Budget(size="33 %"), time=3600, search=search,
                         out=tmp_path, quiet=True)
    report = result.manifest.report
    assert report.breaches == ()
    assert report.compressed["size_bytes"] <= 0.33 * report.original["size_bytes"]
    assert report.compressed["map50"] > 0.5 * report.original["map50"]
    assert len(result.manifest.model.segments) == 1
    assert {path.name for path in (tmp_path / "trials").iterdir()} >= {"quantized", "00-1"}


def test_it_is_pruned_and_learns_from_the_original(detector: tuple[ew.Program, ew.Task]) -> None:
    program, task = detector
    pruned = ew.prune(program, task, ew.ChannelPruning(ratio=0.3))
    assert pruned.costs().macs < 0.75 * program.costs().macs
    recovered = ew.fit(pruned, task, ew.Training(epochs=1, lr=0.001, optimizer="adamw"), program)
    outputs = recovered.module()(*task.test.example(2))
    assert set(outputs) == {"boxes", "scores", "distances"}
    assert all(bool(value.isfinite().all()) for value in outputs.values())


def test_the_example_is_captured_pruned_and_runs_on_any_number_of_images() -> None:
    example = load_example()
    model = example.Detector(2, SIZE, 2 * SIZE, channels=8)
    program = ew.Program.capture(model, (torch.randn(2, 3, SIZE, 2 * SIZE),))
    pruned = ew.prune(program, config=ew.ChannelPruning(ratio=0.5, criterion="magnitude"))
    assert pruned.costs().macs < 0.55 * program.costs().macs
    images = torch.randn(3, 3, SIZE, 2 * SIZE)
    ew.Detection(strides=example.STRIDES).check_outputs(pruned.module()(images), (images,))
    assert 200_000 < sum(value.numel() for value in example.bccd_detector().parameters()) < 400_000
