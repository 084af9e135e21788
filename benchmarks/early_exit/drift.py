"""Does a session notice that its images are no longer those of calibration?

A ResNet-56 in 8 bits with trained exits is calibrated on 5,000 images held out of train, with a
guarantee of at most one point of accuracy. Then it runs the 10,000 test images as they are, and
corrupted at three strengths: Gaussian noise, Gaussian blur, less contrast. Stored are the accuracy
that early exits lose on each, and after how many images the session reports that the guarantee no
longer applies. The published weights have seen the held-out images, which are easier to them than
the test images: that is a drift too, so the calibration here is on half of the test images, and all
else on the other half.

Example:
    python -m benchmarks.early_exit.drift --data DIR --programs DIR
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import edgewright as ew
from benchmarks.common.paths import RESULTS
from benchmarks.common.result_rows import provenance
from edgewright.core import Budget
from edgewright.exits import ExitCalibration, calibrate_exits
from edgewright.pipeline import Recipe
from edgewright.pipeline._assemble import Assembly
from edgewright.pipeline._evaluate import run_every_exit
from edgewright.pipeline._points import replace_points
from edgewright.runtime import Session
from edgewright.task import load_task

STRENGTHS: Final = {"noise": (0.04, 0.08, 0.16), "blur": (0.5, 0.8, 1.2),
                    "contrast": (0.75, 0.5, 0.3)}
EPSILON, CONFIDENCE, BATCH, SEED = 0.01, 0.95, 100, 0
_PACKAGES: Final = ("edgewright", "torch", "onnxruntime", "numpy", "scipy")


def main() -> None:
    """Measure, print and store."""
    given = parse()
    task = load_task(f"cifar10:{given.data}", normalize="imagenet")
    program = ew.Program.load(given.programs / "resnet56-train-0.pt2")
    config = ExitCalibration(max_drop=EPSILON, confidence_level=CONFIDENCE)
    assembly = Assembly(task, Budget(), Recipe(name="drift"),
                        ew.EarlyExits(calibration=config), SEED, "resnet56")
    draft = assembly.draft(ew.quantize(program, task, ew.Quantization(), seed=SEED))
    rows = np.random.default_rng(SEED).permutation(len(task.test))
    half = len(rows) // 2
    held_out = task.test.select(rows[:half].tolist())
    found, = calibrate_exits(
        *run_every_exit(Session(draft), held_out),
        [segment.macs for segment in draft.manifest.model.segments], config,
        split=held_out.name, seed=SEED)
    bundle = replace_points(draft, (found.point,))
    kept = found.point.guarantee
    inputs, targets = everything(task.test.select(rows[half:].tolist()))
    record = {"words": found.words, "guarantee": kept.model_dump() if kept else None,
              "as they are": judged(bundle, inputs, targets)} | {
        f"{name} {strength:g}": judged(bundle, corrupted(inputs, name, strength), targets)
        for name, strengths in STRENGTHS.items() for strength in strengths}
    record |= provenance(_PACKAGES, seed=SEED)
    given.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--programs", required=True, type=Path,
                        help="folder where benchmarks.early_exit.cifar10 keeps programs with exits")
    parser.add_argument("--out", type=Path, default=RESULTS / "drift_cifar10.json")
    return parser.parse_args()


def everything(split: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All samples of a split, as the model takes them."""
    batches = list(split.batches(500))
    return (np.concatenate([batch.inputs[0].numpy() for batch in batches]),
            np.concatenate([batch.targets.numpy() for batch in batches]))


def corrupted(images: NDArray[np.float32], name: str, strength: float) -> NDArray[np.float32]:
    """Normalized images, made worse: noise in units of the pixels' range, blur in pixels, contrast.

    One unit of a normalized channel is about a quarter of the pixels' range, hence the 4.
    """
    if name == "noise":
        noise = np.random.default_rng(SEED).normal(size=images.shape)
        return (images + 4 * strength * noise).astype(np.float32)
    if name == "blur":
        return np.asarray(gaussian_filter(images, (0, 0, strength, strength)), dtype=np.float32)
    mean = images.mean(axis=(2, 3), keepdims=True)
    return np.asarray(mean + strength * (images - mean), dtype=np.float32)


def judged(bundle: Any, inputs: NDArray[np.float32], targets: NDArray[np.int64]) -> dict[str, Any]:
    """What leaving early costs on these images, and whether the session reports drift."""
    session = Session(bundle)
    early, full, said_after = [], [], None
    for start in range(0, len(inputs), BATCH):
        batch = inputs[start:start + BATCH]
        early.append(session(batch).output.argmax(axis=1))
        full.append(session.run_all_exits(batch)[-1].outputs[0].argmax(axis=1))
        drift = session.drift()
        if said_after is None and drift is not None and drift.drifted:
            said_after = start + len(batch)
    verdict = session.drift()
    accuracies = [float((np.concatenate(part) == targets).mean()) for part in (early, full)]
    return {"accuracy": accuracies[0], "full_accuracy": accuracies[1],
            "loss": round(accuracies[1] - accuracies[0], 4), "within": accuracies[1] - accuracies[0]
            <= EPSILON, "drift_said_after": said_after,
            "words": verdict.summary if verdict else None, "shares": session.stats().exit_shares}


if __name__ == "__main__":
    main()
