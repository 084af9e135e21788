"""The passes of the matrix, each on a trained program at toy size, with a check of its effect."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from typing import Any, Final

import edgewright as ew
from edgewright.exits import HeadTraining
from edgewright.exporters import prove_export
from edgewright.training import evaluate_module

Pass = Callable[[ew.Program, ew.Task], None]

_SAMPLES: Final = 64
_STEPS: Final = 20
SHORT: Final = ew.Training(epochs=1, batch_size=32, lr=0.001, optimizer="adamw", augment=False)


def _prune(criterion: Any) -> Pass:
    def run(program: ew.Program, task: ew.Task) -> None:
        config = ew.ChannelPruning(criterion=criterion, ratio=0.3, samples=_SAMPLES, round_to=4,
                                   prove_export=False)
        pruned = ew.prune(program, task, config)
        assert pruned.costs().macs < program.costs().macs
        _check_metric(pruned, task)
    return run


def _prune_blocks(program: ew.Program, task: ew.Task) -> None:
    shorter = ew.prune_blocks(program, task, ew.BlockPruning(count=1, samples=_SAMPLES))
    assert shorter.costs().macs < program.costs().macs
    _check_metric(shorter, task)


def _train(program: ew.Program, task: ew.Task) -> None:
    _check_metric(ew.fit(program, task, SHORT), task)


def _distill(program: ew.Program, task: ew.Task) -> None:
    _check_metric(ew.fit(program, task, SHORT, teacher=program), task)


def _quantize(**settings: Any) -> Pass:
    def run(program: ew.Program, task: ew.Task) -> None:
        config = ew.Quantization(calibration_samples=_SAMPLES, **settings)
        quantized = ew.quantize(program, task, config)
        assert quantized.is_quantized
        _check_metric(quantized, task)
        prove_export(quantized)
    return run


def _mix(method: Any) -> Pass:
    def run(program: ew.Program, task: ew.Task) -> None:
        mixed = ew.MixedPrecision(bit_ops=0.75, weights=(8, 4), method=method, samples=_SAMPLES)
        _quantize(mixed=mixed)(program, task)
    return run


def _add_exits(program: ew.Program, task: ew.Task) -> None:
    exits = ew.add_exits(program, task, ew.EarlyExits(
        places=1, training=HeadTraining(settings=SHORT)))
    assert exits.exits == 1
    _check_metric(exits, task)


def _export(target: Any) -> Pass:
    def run(program: ew.Program, task: ew.Task) -> None:
        with tempfile.TemporaryDirectory() as folder:
            assert ew.export(program, target, f"{folder}/model", task=task).stat().st_size
    return run


PASSES: Final[dict[str, Pass]] = {
    "prune, Gauss-Newton": _prune("gauss_newton"),
    "prune, Taylor": _prune("taylor"),
    "prune, Fisher": _prune("fisher"),
    "prune, magnitude": _prune("magnitude"),
    "prune blocks": _prune_blocks,
    "train": _train,
    "distill": _distill,
    "int8, trained (QAT)": _quantize(method=ew.QAT(training=SHORT)),
    "int8, calibrated (PTQ)": _quantize(),
    "mixed, by loss": _mix("loss"),
    "mixed, by Hessian": _mix("hessian"),
    "int4, AdaRound": _quantize(weights=4, method=ew.PTQ(rounding=ew.AdaRound(_STEPS))),
    "int4, BRECQ": _quantize(weights=4, method=ew.PTQ(rounding=ew.BRECQ(_STEPS))),
    "early exits": _add_exits,
    "ONNX": _export("onnx"),
    "LiteRT": _export("litert"),
    "ExecuTorch": _export("executorch"),
}


def _check_metric(program: ew.Program, task: ew.Task) -> None:
    """Check that the primary metric of every exit is a number under the goal's name."""
    for score in evaluate_module(program.module(), task.val, task.goal):
        assert score.name == task.metric.name
        assert math.isfinite(score.value)
