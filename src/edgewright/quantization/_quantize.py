"""`quantize`: turn a floating-point program into an integer program."""

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
    calibrate_activation_ranges,
    calibrate_weight_ranges,
    draw_training_inputs,
    synthesize_inputs,
    validate_batches,
)
from edgewright.quantization.config import Quantization, resolve
from edgewright.quantization.conversion import convert, measure_float_share
from edgewright.quantization.mixed import choose_precisions
from edgewright.quantization.placement import Placement, place
from edgewright.quantization.ptq import add_biases, correct_bias, equalize, learn_rounding
from edgewright.quantization.scheme import PTQ, QAT, Nearest, Scheme
from edgewright.quantization.simulation import (
    FreezeNorms,
    KeepGainsPositive,
    QuantizationSimulation,
    find_norm_gains,
    make_gains_positive,
    simulate_quantization,
)
from edgewright.task import Task
from edgewright.training import (
    ConstrainedObjective,
    GoalLoss,
    Objective,
    Progress,
    check_program,
    train,
)

# Below this number of bits, training initializes a weight's scale from its mean magnitude (LSQ).
_LSQ_INIT_BELOW: Final = 8
_SYNTHETIC_SAMPLES: Final = 256  # each synthetic batch costs a hundred training steps
_SAMPLE_BYTES: Final = 1 << 28  # limit on the largest activation over all samples for rounding

Batches = Callable[[], Iterable[tuple[Tensor, ...]]]


def quantize(program: Program, task: Task | None, config: Quantization | None = None, *,
             objective: Objective | None = None, seed: int = 0,
             checkpoint: Path | None = None, progress: Progress | None = None) -> Program:
    """Quantize a program's weights and activations.

    Ranges are calibrated on the training split. The model's outputs stay in floating point, and so
    do operators for which the runtime has no integer kernel; the weights of those are stored as
    integers and dequantized before use. If 5 % or more of the stored bytes stay in floating
    point, a warning lists the tensors and the reasons. The input program is not modified. The
    result's example inputs are two of the calibration samples.

    Start with the defaults (post-training int8). If accuracy drops too much, see `PTQ` for options
    that need no training, `QAT` for quantization-aware training, and `MixedPrecision` for bits
    chosen per layer.

    Args:
        program: The program in floating point.
        task: Its data and loss. With None, inputs for calibration are synthesized from the
            running statistics of the program's batch norms; this works only where no training is
            needed.
        config: The quantization settings; post-training int8 by default.
        objective: The objective that ``qat`` minimizes; the label loss by default.
        seed: Seed for the order of the samples.
        checkpoint: File in which ``qat`` saves its state and from which it resumes.
        progress: Reports the progress of ``qat``.

    Raises:
        UsageError: The program is already quantized, the scheme breaks a rule of its target or
            matches no layer, a pattern matches nothing, or a task is needed and missing.
        DataError: The data does not fit the program or contains NaN.
        ModelError: There is neither a task nor a batch norm; or a loss is needed (``qat``, mixed
            precision) that does not fit the program's outputs.

    Example:
        >>> import edgewright as ew
        >>> import torch
        >>> task = ew.Task((torch.randn(64, 4), torch.arange(64) % 3),
        ...                test=(torch.randn(8, 4), torch.arange(8) % 3))
        >>> program = ew.Program.capture(torch.nn.Linear(4, 3), torch.zeros(1, 4))
        >>> ew.quantize(program, task).state_dict()["weight"].dtype
        torch.int8

        Weight-only quantization with 4 bits in all layers, and dynamic quantization. Neither needs
        data:

        >>> config = ew.Quantization(weights=4, activations=None, first_last_bits=None)
        >>> int(ew.quantize(program, None, config).state_dict()["weight"].abs().max()) <= 8
        True
        >>> ew.quantize(program, None, ew.Quantization(activations="dynamic")).is_quantized
        True

        Post-training quantization with learned rounding and 3 bits in one layer, and
        quantization-aware training with 2 bits:

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
        raise UsageError("the program is already quantized; pass the program in floating point")
    method = scheme.method
    if objective is None and task is not None and isinstance(method, QAT):
        objective = GoalLoss(task.goal, method.training.label_smoothing)
    _check_outputs(program, task, scheme, objective)
    batches = _batches(program, task, scheme, seed)
    if task is not None:
        scheme = choose_precisions(program, task, scheme, seed)
    program = _prepare(program, scheme)
    placement = _place(program, scheme)
    quantized = _Quantized(program, placement, scheme, simulate_quantization(
        program, placement, method.quantizer if isinstance(method, QAT) else "nothing"))
    quantized.calibrate_ranges(batches)
    if isinstance(method, PTQ):
        quantized.correct(method, batches, seed)
    elif task is not None and objective is not None:
        constrained = ConstrainedObjective(
            objective, (FreezeNorms(method.freeze_norms_after),
                        KeepGainsPositive(find_norm_gains(program).values())))
        train(quantized.simulation.module, task, method.training, constrained, seed=seed,
              checkpoint=checkpoint, progress=progress)
    converted = convert(program, placement, quantized.simulation,
                        pool_rounding=scheme.target.pool_rounding)
    share = measure_float_share(converted, placement.skip_reasons)
    if share.is_significant:
        warnings.warn(f"after quantizing, {share}", stacklevel=2)
    examples = next(iter(batches()), None)
    return converted if examples is None else converted.with_examples(examples)


def _check_outputs(program: Program, task: Task | None, scheme: Scheme,
                   objective: Objective | None) -> None:
    """Check that the objective and the loss for mixed precision fit the program's outputs."""
    trains = isinstance(scheme.method, QAT)
    if task is None or (scheme.mixed is None and not trains):
        return
    list(validate_batches(program.graph_module, [task.train.example(2)]))
    if scheme.mixed is not None:
        check_program(program, task)
    if trains:
        check_program(program, task, objective)


def _batches(program: Program, task: Task | None, scheme: Scheme, seed: int) -> Batches:
    """Return a function that yields the calibration batches; it can be called repeatedly."""
    method, samples = scheme.method, scheme.calibration_samples
    if task is not None:
        return lambda: validate_batches(program.graph_module,
                                        draw_training_inputs(task, samples, seed))
    if isinstance(method, QAT) or scheme.mixed is not None:
        what = "training" if isinstance(method, QAT) else "mixed precision"
        raise UsageError(f"{what} needs labeled data; pass a task, or use method='ptq' and "
                         "mixed=None, which work without one")
    if (scheme.activation_mode != "static" and isinstance(method.rounding, Nearest)
            and not method.correct_bias):
        return tuple  # no data is needed
    synthetic = list(synthesize_inputs(program, min(samples, _SYNTHETIC_SAMPLES), seed))
    return lambda: synthetic


def _prepare(program: Program, scheme: Scheme) -> Program:
    """Prepare the program for quantization; batch norms are folded unless they will be trained."""
    method = scheme.method
    if isinstance(method, QAT):
        return fold_batch_norm(program) if scheme.power_of_two else make_gains_positive(program)
    folded = fold_batch_norm(program)
    folded = equalize(folded) if method.equalize else folded
    return add_biases(folded) if method.correct_bias else folded


def _place(program: Program, scheme: Scheme) -> Placement:
    placement = place(program, scheme)
    if not placement.weights:
        raise UsageError("the scheme matches no layer of the program, so there is nothing to "
                         f"quantize: {format_skip_reasons(placement.skip_reasons)}")
    return placement


@final
@dataclass(frozen=True)
class _Quantized:
    """A program and its simulation, before conversion to integers."""

    program: Program
    placement: Placement
    scheme: Scheme
    simulation: QuantizationSimulation

    def calibrate_ranges(self, batches: Batches) -> None:
        """Set all ranges: of weights from their values, of activations from the inputs."""
        scheme, simulation = self.scheme, self.simulation
        calibrate_weight_ranges(simulation, scheme.range_estimator)
        if isinstance(scheme.method, QAT):
            tensors = simulation.state()
            for name, quantizer in simulation.weights.items():
                if quantizer.grid.bits < _LSQ_INIT_BELOW and quantizer.grid.symmetric:
                    quantizer.initialize_scale(tensors[name])
        calibrate_activation_ranges(simulation, scheme.range_estimator, batches())

    def correct(self, method: PTQ, batches: Batches, seed: int) -> None:
        """Learn the rounding and correct the biases, as the method says."""
        simulation = self.simulation
        simulation.module.requires_grad_(requires_grad=False)
        if not isinstance(method.rounding, Nearest):
            samples = self._collect_samples(batches())
            learn_rounding(self.program, self.placement, simulation, samples, method.rounding,
                           seed=seed)
        if method.correct_bias:
            correct_bias(simulation.module, self.program.graph_module, batches())

    def _collect_samples(self, batches: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Concatenate as many samples as fit the memory limit."""
        largest = max(math.prod(shape_of(node)) for node in self.program.calls()
                      if isinstance(node.meta.get("val"), Tensor))
        room = max(1, _SAMPLE_BYTES // (4 * largest))
        collected: list[tuple[Tensor, ...]] = []
        for batch in batches:
            collected.append(tuple(tensor[:room] for tensor in batch))
            room -= len(batch[0])
            if room <= 0:
                break
        return tuple(torch.cat(tensors) for tensors in zip(*collected, strict=True))
