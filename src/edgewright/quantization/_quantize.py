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
from edgewright.quantization.conversion import convert, float_share
from edgewright.quantization.mixed import choose_precisions
from edgewright.quantization.placement import Placement, place
from edgewright.quantization.ptq import add_biases, correct_bias, equalize, learn_rounding
from edgewright.quantization.scheme import RULES, Quantization, check_scheme
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
    """Quantise a program's weights and activations.

    Ranges come from the training split. What is not quantised stays in floating point: the
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
        UsageError: The program is quantised already, the scheme breaks a rule of its target or
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

        >>> config = ew.Quantization(mode="weight_only", weights=4, ends=None)
        >>> int(ew.quantize(program, None, config).state_dict()["weight"].abs().max()) <= 8
        True
        >>> ew.quantize(program, None, ew.Quantization(mode="dynamic")).is_quantized
        True

        One layer in three bits, rounded so that outputs stay close; or training in two bits:

        >>> config = ew.Quantization(rounding="adaround", rounding_steps=9, layers={
        ...     "weight": ew.Precision(weights=3)})
        >>> ew.quantize(program, task, config).costs().layers[0].weight_bits
        3
        >>> training = ew.Training(epochs=1, batch_size=16)
        >>> config = ew.Quantization(method="qat", weights=2, activations=2, training=training)
        >>> ew.quantize(program, task, config).is_quantized
        True
    """
    config = config or Quantization()
    check_scheme(config)
    if program.is_quantized:
        raise UsageError("the program is quantised already; quantise the one in floating point")
    objective = objective or LabelLoss(config.training.label_smoothing)
    _check_outputs(program, task, config, objective)
    batches = _batches(program, task, config, seed)
    if config.mixed is not None and task is not None:
        config = config.replace(mixed=None, layers=choose_precisions(
            program, task, config, config.mixed, seed))
    program = _prepared(program, config)
    placement = _placed(program, config)
    quantized = _Quantized(program, placement, config, simulate(
        program, placement, config.quantizer if config.method == "qat" else "nothing"))
    quantized.calibrate(batches)
    if config.method == "ptq":
        quantized.correct(batches, seed)
    elif task is not None:
        wanted = Constrained(
            objective, (FreezeNorms(config.freeze_norms),
                              KeepGainsPositive(gains_of_layers(program).values())))
        train(quantized.simulation.module, task, config.training, wanted, seed=seed,
              checkpoint=checkpoint, progress=progress)
    converted = convert(program, placement, quantized.simulation,
                        pool_rounding=RULES[config.target].pool_rounding)
    share = float_share(converted, placement.kept)
    if share.is_real:
        warnings.warn(f"after quantizing, {share}", stacklevel=2)
    shown = next(iter(batches()), None)
    return converted if shown is None else converted.with_examples(shown)


def _check_outputs(program: Program, task: Task | None, config: Quantization,
                   objective: Objective) -> None:
    """See that what is minimised, or measured for mixed precision, is made for the outputs."""
    if task is None or (config.mixed is None and config.method != "qat"):
        return
    list(fitting(program.graph_module, [task.train.example(2)]))
    if config.mixed is not None:
        check_program(program, task)
    if config.method == "qat":
        check_program(program, task, objective)


def _batches(program: Program, task: Task | None, config: Quantization, seed: int) -> Batches:
    """What calibration looks at, as often as it looks."""
    if task is not None:
        return lambda: fitting(program.graph_module, training_inputs(
            task, config.calibration_samples, seed))
    if config.method == "qat" or config.mixed is not None:
        what = "training" if config.method == "qat" else "mixed precision"
        raise UsageError(f"{what} needs labelled data; give a task, or calibrate without one by "
                         "method='ptq' and mixed=None")
    if config.mode != "static" and config.rounding == "nearest" and not config.correct_bias:
        return tuple  # nothing is looked at
    made = list(synthetic_inputs(program, min(config.calibration_samples, _SYNTHETIC), seed))
    return lambda: made


def _prepared(program: Program, config: Quantization) -> Program:
    """What is quantised: batch norms fold first, unless they are still to be trained."""
    if config.method == "qat" and not config.power_of_two:
        return orient_norms(program)
    folded = fold_batch_norm(program)
    if config.method == "qat":
        return folded
    folded = equalize(folded) if config.equalize else folded
    return add_biases(folded) if config.correct_bias else folded


def _placed(program: Program, config: Quantization) -> Placement:
    placement = place(program, config)
    if not placement.weights:
        raise UsageError("the scheme fits no layer of the program, so there is nothing to "
                         f"quantise: {format_skip_reasons(placement.kept)}")
    return placement


@final
@dataclass(frozen=True)
class _Quantized:
    """A program and its simulation on the way to integers."""

    program: Program
    placement: Placement
    config: Quantization
    simulation: Simulation

    def calibrate(self, batches: Batches) -> None:
        """Set every range: the weights' from themselves, the activations' from the inputs."""
        config, simulation = self.config, self.simulation
        calibrate_weights(simulation, config)
        if config.method == "qat":
            tensors = simulation.state()
            for name, quantizer in simulation.weights.items():
                if quantizer.grid.bits < _WHOLE and quantizer.grid.symmetric:
                    quantizer.set_from(tensors[name])
        calibrate_activations(simulation, config, batches())

    def correct(self, batches: Batches, seed: int) -> None:
        """Choose roundings and biases by what comes out."""
        config, simulation = self.config, self.simulation
        simulation.module.requires_grad_(requires_grad=False)
        if config.rounding != "nearest":
            learn_rounding(self.program, self.placement, simulation, self._held(batches()),
                           by_block=config.rounding == "brecq", steps=config.rounding_steps,
                           seed=seed)
        if config.correct_bias:
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
