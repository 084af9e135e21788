"""Train networks on spoken digits, compress them to int8 and measure the files on ONNX Runtime.

The data are the Free Spoken Digit Dataset's (Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0):
2,700 recordings to train on and 300 to test on, of six speakers who are in both, at 8 kHz. The
networks are a DS-CNN (Zhang et al. 2017, Hello Edge) and a GRU over the frames, on 32 log-mel bands
of 0.8 s; training recordings are shifted by up to a tenth. A tenth of the training split is held
out for selection, nothing is selected on the test split. The rows have the accuracies of both files
on ONNX Runtime.

Reading them needs soundfile: pip install soundfile

Example:
    python -m benchmarks.audio.fsdd --data DIR --network ds_cnn --out runs/fsdd
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

import edgewright as ew
from benchmarks.audio.recordings import DIGITS, LOG_MEL, join_waveforms, read_recordings
from benchmarks.common.paths import RESULTS
from benchmarks.common.result_rows import describe_run, keep, provenance

PACKAGES: Final = ("torch", "onnxruntime", "numpy", "soundfile")


class DsCnn(nn.Sequential):
    """A convolution, four depthwise-separable ones, and a mean over time."""

    def __init__(self, channels: int = 64) -> None:
        layers = [nn.Conv2d(1, channels, (5, 5), stride=2, padding=2, bias=False),
                  nn.BatchNorm2d(channels), nn.ReLU()]
        for _ in range(4):
            layers += [nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
                       nn.BatchNorm2d(channels), nn.ReLU(),
                       nn.Conv2d(channels, channels, 1, bias=False),
                       nn.BatchNorm2d(channels), nn.ReLU()]
        super().__init__(*layers, nn.AvgPool2d((4, 1)), nn.AdaptiveAvgPool2d((4, 1)),
                         nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * channels, len(DIGITS)))


class Gru(nn.Module):
    """A GRU over the frames; the mean of its outputs is classified."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.cells = nn.GRU(LOG_MEL.mels, width, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(width, len(DIGITS)))

    def forward(self, x: Tensor) -> Tensor:
        """Log-mel features (N, 1, mels, frames) to logits (N, 10)."""
        states, _ = self.cells(x.squeeze(1).transpose(1, 2))
        logits: Tensor = self.head(states.mean(dim=1))
        return logits


NETWORKS: Final[Mapping[str, type[nn.Module]]] = {"ds_cnn": DsCnn, "gru": Gru}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, compress, and write the row."""
    settings = parse(arguments)
    task = make_task(settings.data)
    torch.manual_seed(settings.seed)
    folder = settings.out / settings.network
    folder.mkdir(parents=True, exist_ok=True)
    since = time.perf_counter()
    program = ew.Program.capture(NETWORKS[settings.network](), task.train.example(2))
    training = ew.Training(epochs=settings.epochs, batch_size=64, lr=0.004, optimizer="adamw",
                           schedule={"cosine": 1}, weight_decay=0.02, clip_norm=5)
    program = ew.fit(program, task, training, seed=settings.seed,
                     checkpoint=folder / "training.ckpt")
    trained = time.perf_counter() - since
    recipe = ew.Recipe.load(settings.recipe)
    result = ew.compress(program, task, recipe=recipe, out=folder / recipe.name,
                         seed=settings.seed, name=f"fsdd-{settings.network}")
    row = {**provenance(PACKAGES, seed=settings.seed, epochs=settings.epochs),
           **describe_run(result.manifest), "training_seconds": round(trained, 1)}
    keep(settings.results, f"{settings.network} {recipe.name}", row)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder of the parquet files")
    parser.add_argument("--out", required=True, type=Path, help="folder of the runs")
    parser.add_argument("--network", choices=sorted(NETWORKS), default="ds_cnn")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--recipe", default="fast", help="a name, or a YAML file (half.yaml here)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS / "fsdd.json")
    return parser.parse_args(arguments)


def make_task(folder: Path) -> ew.Task:
    """The recordings with their digits, standardized by those of the training split."""
    splits = [read_recordings(folder, name) for name in ("train", "test")]
    train, test = ((join_waveforms(split), np.array([found.digit for found in split]))
                   for split in splits)
    return ew.Task(train, test=test, preprocessing=LOG_MEL.standardize(train[0]), classes=DIGITS,
                   name="fsdd")


if __name__ == "__main__":
    main()
