"""Train a detector of blood cells, compress it to int8 and measure both files on ONNX Runtime.

The data are BCCD's (Shenggan/BCCD_Dataset, MIT): 205, 87 and 72 images of 640 x 480 pixels, three
classes. Images are resized to 192 x 144, which keeps their proportions; a box without area (there
is one in each of the training and validation splits) is left out. Training images are mirrored both
ways, shifted, and varied in brightness and contrast. The detector is `examples/detector.py`.
Nothing is selected on the test split.

Example:
    python -m benchmarks.detection.bccd --data DIR --out runs/bccd
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

import edgewright as ew
from benchmarks.common.paths import RESULTS, ROOT
from benchmarks.common.result_rows import describe_run, keep, provenance

HEIGHT, WIDTH = 144, 192
CLASSES: Final = ("red blood cell", "white blood cell", "platelets")
DETECTOR: Final = ROOT / "examples" / "detector.py"
PREPROCESSING: Final = ew.Preprocessing(channels=3, height=HEIGHT, width=WIDTH, mean=(0.5,) * 3,
                                        std=(1.0,) * 3)  # what `BloodCells` does, for the bundle
PACKAGES: Final = ("torch", "onnxruntime", "numpy", "pycocotools")
_SHIFT: Final = 16  # pixels, at most
_CONTRAST: Final = 0.3  # at most


@final
class BloodCells(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """The images of one split and their boxes, in memory.

    Args:
        file: A parquet file.
        augment: Vary every sample at random, by torch's global generator.
    """

    def __init__(self, file: Path, *, augment: bool = False) -> None:
        rows = pq.read_table(file).to_pylist()
        self._images = [_read_image(row["image"]["bytes"]) for row in rows]
        self._targets = [_read_boxes(row) for row in rows]
        self._augment = augment

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, target = torch.from_numpy(self._images[index]), self._targets[index]
        image = image.permute(2, 0, 1).float() / 255
        if self._augment:
            image, target = _shift(*_mirror(image, target))
            image = _vary_colors(image)
        return image - 0.5, target


def _read_image(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as image:
        return np.array(image.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))


def _read_boxes(row: dict[str, Any]) -> dict[str, Tensor]:
    """Boxes in pixels of the resized image, and their labels."""
    scale = torch.tensor([WIDTH / row["width"], HEIGHT / row["height"]]).repeat(2)
    boxes = torch.tensor(row["objects"]["bbox"], dtype=torch.float32).reshape(-1, 4) * scale
    labels = torch.tensor(row["objects"]["category"], dtype=torch.long)
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return {"boxes": boxes[has_area], "labels": labels[has_area]}


def _mirror(image: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Mirror each axis with probability 0.5."""
    boxes = target["boxes"].clone()
    for axis, length in ((2, WIDTH), (1, HEIGHT)):
        if bool(torch.rand(()) < 0.5):
            edges = [2 - axis, 4 - axis]  # left and right, or top and bottom
            image = image.flip(axis)
            boxes[:, edges] = length - boxes[:, edges[::-1]]
    return image, {**target, "boxes": boxes}


def _shift(image: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Shift by up to 16 pixels; boxes are clipped, and those with less than half left out."""
    right, down = torch.randint(-_SHIFT, _SHIFT + 1, (2,)).tolist()
    padded = nn.functional.pad(image, (_SHIFT,) * 4, value=0.5)
    image = padded[:, _SHIFT - down:_SHIFT - down + HEIGHT, _SHIFT - right:_SHIFT - right + WIDTH]
    moved = target["boxes"] + torch.tensor([right, down, right, down])
    limits = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    boxes = torch.minimum(moved.clamp_min(0), limits)
    areas = [(found[:, 2:] - found[:, :2]).clamp_min(0).prod(dim=1) for found in (boxes, moved)]
    kept = areas[0] >= 0.5 * areas[1]
    return image, {"boxes": boxes[kept], "labels": target["labels"][kept]}


def _vary_colors(image: Tensor) -> Tensor:
    contrast, brightness = 1 + _CONTRAST * (2 * torch.rand(2) - 1)
    varied: Tensor = (image * brightness - 0.5) * contrast + 0.5
    return varied.clamp(0, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, compress, and write the row."""
    settings = parse(arguments)
    detector = _load_detector()
    task = make_task(settings.data, detector.STRIDES)
    torch.manual_seed(settings.seed)
    settings.out.mkdir(parents=True, exist_ok=True)
    since = time.perf_counter()
    program = _train(detector, task, settings)
    trained = time.perf_counter() - since
    result = ew.compress(program, task, recipe=settings.recipe, out=settings.out / settings.recipe,
                         seed=settings.seed, name="bccd-detector")
    row = {**provenance(PACKAGES, seed=settings.seed, epochs=settings.epochs),
           **to_row(result.manifest), "training_seconds": round(trained, 1)}
    keep(settings.results, settings.recipe, row)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder of BCCD's parquet files")
    parser.add_argument("--out", required=True, type=Path,
                        help="folder of the training and the run; both are resumed from it")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS / "bccd.json")
    return parser.parse_args(arguments)


def make_task(folder: Path, strides: tuple[int, ...]) -> ew.Task:
    """The three splits, and the goal."""
    train, val, test = (BloodCells(next(folder.glob(f"{name}-*.parquet")), augment=name == "train")
                        for name in ("train", "validation", "test"))
    return ew.Task(train, val, test, ew.Detection(strides=strides), classes=CLASSES, name="bccd",
                   preprocessing=PREPROCESSING)


def _train(detector: Any, task: ew.Task, settings: argparse.Namespace) -> ew.Program:
    """The trained program, read from the folder if it is there."""
    file = settings.out / "trained.pt2"
    if file.is_file():
        return ew.Program.load(file)
    program = ew.Program.capture(detector.bccd_detector(), task.train.example(2))
    training = ew.Training(epochs=settings.epochs, batch_size=8, lr=0.002, optimizer="adamw",
                           schedule={"cosine": 2}, weight_decay=0.02, ema=0.99, clip_norm=10)
    program = ew.fit(program, task, training, seed=settings.seed,
                     checkpoint=settings.out / "training.ckpt")
    program.save(file)
    return program


def _load_detector() -> Any:
    spec = importlib.util.spec_from_file_location("detector", DETECTOR)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(DETECTOR)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def to_row(manifest: ew.Manifest) -> dict[str, Any]:
    """Figures of both files on ONNX Runtime, their ratios, and parity."""
    report = manifest.report
    return {
        **describe_run(manifest),
        "kept_map50": round(report.compressed["map50"] / report.original["map50"], 4),
        "structure": manifest.model.structure,
    }


if __name__ == "__main__":
    main()
