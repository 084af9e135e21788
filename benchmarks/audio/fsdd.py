"""Train networks on spoken digits, compress them to int8 and measure the files on ONNX Runtime.

The data are the Free Spoken Digit Dataset's (Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0):
2,700 recordings to train on and 300 to test on, of six speakers who are in both, at 8 kHz. The
networks are a DS-CNN (Zhang et al. 2017, Hello Edge) and a GRU over the frames, on 32 log-mel bands
of 0.8 s; training recordings are shifted by up to a tenth. A tenth of the training split is held
out for selection, nothing is selected on the test split. The rows have the accuracies of both files
on ONNX Runtime.

The recordings are FLAC files, which soundfile decodes: pip install soundfile

Example:
    python -m benchmarks.audio.fsdd --data DIR --network ds_cnn --out runs/fsdd
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import edgewright as ew
from benchmarks.common.paths import RESULTS
from benchmarks.common.result_rows import describe_figures, keep, provenance

CLASSES: Final = tuple("0123456789")
PACKAGES: Final = ("torch", "onnxruntime", "numpy", "soundfile")
FEATURES: Final = ew.AudioPreprocessing(sample_rate=8000, length=6400, frame_length=256, hop=128,
                                        fft_size=256, mels=32, fmin=60)


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
                         nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * channels, len(CLASSES)))


class Gru(nn.Module):
    """A GRU over the frames; the mean of its outputs is classified."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.cells = nn.GRU(FEATURES.mels, width, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(width, len(CLASSES)))

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
           **to_row(result.manifest), "training_seconds": round(trained, 1)}
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
    train, test = (read_split(next(folder.glob(f"{name}-*.parquet"))) for name in ("train", "test"))
    return ew.Task(train, test=test, preprocessing=FEATURES.standardize(train[0]), classes=CLASSES,
                   name="fsdd")


def read_split(file: Path) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Waveforms (N, length), and digits (N,)."""
    rows = pq.read_table(file).to_pylist()
    waveforms = np.concatenate([FEATURES.fit_length(_decode(row["audio"]["bytes"])[None])
                                for row in rows])
    return waveforms, np.array([row["label"] for row in rows])


def _decode(content: bytes) -> NDArray[np.int16]:
    try:
        import soundfile  # noqa: PLC0415 - not an extra of Edgewright
    except ImportError as error:
        raise SystemExit("the recordings are FLAC files; run: pip install soundfile") from error
    waveform: NDArray[np.int16]
    waveform, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    if waveform.ndim != 1 or rate != FEATURES.sample_rate:
        raise SystemExit(f"a recording has shape {waveform.shape} and {rate} samples per second; "
                         f"expected one channel and {FEATURES.sample_rate}")
    return waveform


def to_row(manifest: ew.Manifest) -> dict[str, Any]:
    """Figures of both files on ONNX Runtime, their ratio of sizes, and parity."""
    report = manifest.report
    return {
        "original": describe_figures(report.original),
        "compressed": describe_figures(report.compressed),
        "times_smaller": round(report.original["size_bytes"] / report.compressed["size_bytes"], 3),
        "stage_seconds": {stage.name: round(stage.seconds, 1) for stage in report.stages},
        "parity": report.parity.model_dump() if report.parity else None,
    }


if __name__ == "__main__":
    main()
