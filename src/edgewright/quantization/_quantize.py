"""`quantize`: a program in floating point to one in integers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import torch
from torch import Tensor

from edgewright.core import format_skip_reasons
from edgewright.errors import UsageError
from edgewright.graph import shape_of
from edgewright.program import Program, fold_batch_norm
from edgewright.quantization.calibration import (
    calibrate_activations,
    calibrate_weights,
    fitting,
    synthetic_inputs,
    training_inputs,
)
from edgewright.quantization.config import Quantization, resolve
from edgewright.quantization.conversion import convert, float_share
from edgewright.quantization.mixed import choose_precisions
from edgewright.quantization.placement import Placement, place
from edgewright.quantization.ptq import add_biases, correct_bias, equalize, learn_rounding
from edgewright.quantization.scheme import PTQ, QAT, Nearest, Scheme
from edgewright.quantization.simulation import (
    FreezeNorms,
    KeepGainsPositive,
    Simulation,
    gains_of_layers,
    orient_norms,
    simulate,
)
from edgewright.task import Task
from edgewright.training import Constrained, LabelLoss, Objective, Progress, check_program, train

_WHOLE: Final = 8  # bits; with fewer, training starts a weight's step from its mean, not its range
_SYNTHETIC: Final = 256  # samples: each batch of them costs a hundred training steps
_HELD_BYTES: Final = 1 << 28  # of the largest value, for all samples that rounding is learned from

Batches = Callable[[], Iterable[tuple[Tensor, ...]]]


def quantize(program: Program, task: Task | None, config: Quantization | None = None, *,
             objective: Objective | None = None, seed: int = 0,
             checkpoint: Path | None = None, progress: Progress | None = None) -> Program:
    """Quantize a program's weights and activations.

    Ranges come from the training split. What is not quantized stays in floating point: the
    model's outputs, and operators outside the runtime's integer kernels, whose weights are
    integers in the file alone. Where a twentieth of the stored bytes or more stays in floating
    point, a warning says which tensors and why. The program is left as it was. Two samples that
    ranges come from are the result's example inputs.

    Args:
        program: In floating point.
        task: Its data and loss; None calibrates on inputs made up from the statistics that the
            program's batch norms keep, where nothing has to be trained.
        config: How; post-training int8 if left out.
        objective: What ``qat`` minimises; the label loss if left out.
        seed: Of the order of the samples.
        checkpoint: Where ``qat`` keeps its state, to be resumed from.
        progress: Shows ``qat``'s progress.

    Raises:
        UsageError: The program is quantized already, the scheme breaks a rule of its target or
            fits no layer, a pattern matches nothing, or there is no task where one is needed.
        DataError: The data does not fit the program or holds NaN.
        ModelError: There is neither a task nor a batch norm; or a loss is looked at (``qat``,
            mixed precision) that is not made for the program's outputs.

    Example:
        >>> import edgewright as ew
        >>> import torch
        >>> task = ew.Task((torch.randn(64, 4), torch.arange(64) % 3),
        ...                test=(torch.randn(8, 4), torch.arange(8) % 3))
        >>> program = ew.Program.capture(torch.nn.Linear(4, 3), torch.zeros(1, 4))
        >>> ew.quantize(program, task).state_dict()["weight"].dtype
        torch.int8

        Weights alone, in four bits at the model's ends too; or ranges taken while running. Neither
        needs data:

        >>> config = ew.Quantization(weights=4, activations=None, first_last_bits=None)
        >>> int(ew.quantize(program, None, config).state_dict()["weight"].abs().max()) <= 8
        True
        >>> ew.quantize(program, None, ew.Quantization(activations="dynamic")).is_quantized
        True

        One layer in three bits, rounded so that outputs stay close; or training in two bits:

        >>> config = ew.Quantization(method=ew.PTQ(rounding=ew.AdaRound(steps=9)), layers={
        ...     "weight": ew.Precision(weights=3)})
        >>> ew.quantize(program, task, config).costs().layers[0].weight_bits
        3
        >>> method = ew.QAT(training=ew.Training(epochs=1, batch_size=16))
        >>> config = ew.Quantization(weights=2, activations=2, method=method)
        >>> ew.quantize(program, task, config).is_quantized
        True
    """
    scheme = resolve(config or Quantization())
    if program.is_quantized:
        raise UsageError("the program is quantized already; quantize the one in floating point")
    method = scheme.method
    objective = objective or LabelLoss(
        method.training.label_smoothing if isinstance(method, QAT) else 0.0)
    _check_outputs(program, task, scheme, objective)
    batches = _batches(program, task, scheme, seed)
    if task is not None:
        scheme = choose_precisions(program, task, scheme, seed)
    program = _prepared(program, scheme)
    placement = _placed(program, scheme)
    quantized = _Quantized(program, placement, scheme, simulate(
        program, placement, method.quantizer if isinstance(method, QAT) else "nothing"))
    quantized.calibrate(batches)
    if isinstance(method, PTQ):
        quantized.correct(method, batches, seed)
    elif task is not None:
        wanted = Constrained(
            objective, (FreezeNorms(method.freeze_norms_after),
                              KeepGainsPositive(gains_of_layers(program).values())))
        train(quantized.simulation.module, task, method.training, wanted, seed=seed,
              checkpoint=checkpoint, progress=progress)
    converted = convert(program, placement, quantized.simulation,
                        pool_rounding=scheme.target.pool_rounding)
    share = float_share(converted, placement.kept)
    if share.is_real:
        warnings.warn(f"after quantizing, {share}", stacklevel=2)
    shown = next(iter(batches()), None)
    return converted if shown is None else converted.with_examples(shown)


def _check_outputs(program: Program, task: Task | None, scheme: Scheme,
                   objective: Objective) -> None:
    """See that what is minimised, or measured for mixed precision, is made for the outputs."""
    trains = isinstance(scheme.method, QAT)
    if task is None or (scheme.mixed is None and not trains):
        return
    list(fitting(program.graph_module, [task.train.example(2)]))
    if scheme.mixed is not None:
        check_program(program, task)
    if trains:
        check_program(program, task, objective)


def _batches(program: Program, task: Task | None, scheme: Scheme, seed: int) -> Batches:
    """What calibration looks at, as often as it looks."""
    method, samples = scheme.method, scheme.calibration_samples
    if task is not None:
        return lambda: fitting(program.graph_module, training_inputs(task, samples, seed))
    if isinstance(method, QAT) or scheme.mixed is not None:
        what = "training" if isinstance(method, QAT) else "mixed precision"
        raise UsageError(f"{what} needs labelled data; give a task, or calibrate without one by "
                         "method='ptq' and mixed=None")
    if (scheme.mode != "static" and isinstance(method.rounding, Nearest)
            and not method.correct_bias):
        return tuple  # nothing is looked at
    made = list(synthetic_inputs(program, min(samples, _SYNTHETIC), seed))
    return lambda: made


def _prepared(program: Program, scheme: Scheme) -> Program:
    """What is quantized: batch norms fold first, unless they are still to be trained."""
    method = scheme.method
    if isinstance(method, QAT):
        return fold_batch_norm(program) if scheme.power_of_two else orient_norms(program)
    folded = fold_batch_norm(program)
    folded = equalize(folded) if method.equalize else folded
    return add_biases(folded) if method.correct_bias else folded


def _placed(program: Program, scheme: Scheme) -> Placement:
    placement = place(program, scheme)
    if not placement.weights:
        raise UsageError("the scheme fits no layer of the program, so there is nothing to "
                         f"quantize: {format_skip_reasons(placement.kept)}")
    return placement


@final
@dataclass(frozen=True)
class _Quantized:
    """A program and its simulation on the way to integers."""

    program: Program
    placement: Placement
    scheme: Scheme
    simulation: Simulation

    def calibrate(self, batches: Batches) -> None:
        """Set every range: the weights' from themselves, the activations' from the inputs."""
        scheme, simulation = self.scheme, self.simulation
        calibrate_weights(simulation, scheme.range_estimator)
        if isinstance(scheme.method, QAT):
            tensors = simulation.state()
            for name, quantizer in simulation.weights.items():
                if quantizer.grid.bits < _WHOLE and quantizer.grid.symmetric:
                    quantizer.set_from(tensors[name])
        calibrate_activations(simulation, scheme.range_estimator, batches())

    def correct(self, method: PTQ, batches: Batches, seed: int) -> None:
        """Choose roundings and biases by what comes out."""
        simulation = self.simulation
        simulation.module.requires_grad_(requires_grad=False)
        if not isinstance(method.rounding, Nearest):
            learn_rounding(self.program, self.placement, simulation, self._held(batches()),
                           method.rounding, seed=seed)
        if method.correct_bias:
            correct_bias(simulation.module, self.program.graph_module, batches())

    def _held(self, batches: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """As many samples as may be held at once."""
        largest = max(math.prod(shape_of(node)) for node in self.program.calls()
                      if isinstance(node.meta.get("val"), Tensor))
        room = max(1, _HELD_BYTES // (4 * largest))
        taken: list[tuple[Tensor, ...]] = []
        for batch in batches:
            taken.append(tuple(tensor[:room] for tensor in batch))
            room -= len(batch[0])
            if room <= 0:
                break
        return tuple(torch.cat(tensors) for tensors in zip(*taken, strict=True))
