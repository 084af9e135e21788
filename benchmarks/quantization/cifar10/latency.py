"""Latency of the stored files of one model, all in one process, taken in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.quantization.cifar10.rows import Engine, open_engine
from edgewright.measure import compare_latency, pin_to_core
from edgewright.task import Split

REFERENCES: Final = ("float", "ort-static")
_IMAGES: Final = 200
_WARMUP: Final = 20


def time_files(files: Mapping[str, Path], images: Split, rounds: int) -> dict[str, dict[str, Any]]:
    """Median, 10th and 90th percentile in ms of every file, and its ratios to `REFERENCES`.

    Batch 1, one thread on one core; every file runs once per round, on the round's image.
    """
    samples = [(batch.inputs[0].numpy(),)
               for batch in images.select(range(_IMAGES)).batches(1)]

    def run(engine: Engine) -> Callable[[int], object]:
        return lambda index: engine.run(samples[index % _IMAGES])

    with pin_to_core():
        engines = {name: open_engine(path) for name, path in files.items()}
        found = compare_latency({name: run(engine) for name, engine in engines.items()},
                                rounds=rounds, warmup=_WARMUP)
    medians = {name: latency.median_ms for name, latency in found.items()}
    return {name: {"median_ms": round(latency.median_ms, 4), "low_ms": round(latency.low_ms, 4),
                   "high_ms": round(latency.high_ms, 4), "runs": latency.runs,
                   "runtime": engines[name].runtime,
                   **{f"of_{reference.replace('-', '_')}":
                      round(latency.median_ms / medians[reference], 3)
                      for reference in REFERENCES if reference in medians}}
            for name, latency in found.items()}
