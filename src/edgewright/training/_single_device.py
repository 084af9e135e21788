"""Training on one device: prepare the module for the loop and restore it afterwards."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from edgewright.errors import UsageError
from edgewright.training._check_outputs import check_outputs
from edgewright.training._checkpoint import fingerprint_run
from edgewright.training._compile import compile_passes
from edgewright.training._compute import ComputePrecision
from edgewright.training._config import Training
from edgewright.training._evaluate import device_of
from edgewright.training._loop import Loop
from edgewright.training._memory_format import use_fastest_format
from edgewright.training._mixing import check_mixing, mix_batch
from edgewright.training._objective import Objective
from edgewright.training._progress import Progress
from edgewright.training._record import TrainingRecord
from edgewright.training._run import Run
from edgewright.training._updater import Updater

if find_spec("lightning_fabric") is None:  # it is imported at the first training, which is late
    raise ModuleNotFoundError("No module named 'lightning_fabric'", name="lightning_fabric")
if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.strategy import Strategy


def train_on_device(run: Run, fabric: Fabric, progress: Progress,
                    notes: tuple[str, ...] = ()) -> TrainingRecord:
    """Train a run's module in place; see `edgewright.training.train`.

    Args:
        run: What to train.
        fabric: The device and precision.
        progress: Receives every step.
        notes: Notes for the record on what was decided before.
    """
    module, config, device = run.module, run.config, fabric.device
    home = device_of(module)
    fingerprint = fingerprint_run(run) if run.checkpoint else ""
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        stack.callback(_move, module, run.objective, home)
        _move(module, run.objective, device)
        example = tuple(tensor.to(device) for tensor in run.task.train.example(2))
        check_mixing(config.augment, example, run.objective)
        outputs = check_outputs(module, run.task, run.objective, run.exits)
        if config.augment.is_mixing:
            run.task.check(outputs)
            first = next(run.task.train.select(range(2)).batches(2))
            mix_batch(first, config.augment, run.task.goal, outputs, seed=0)  # or refuse targets
        memory_format = stack.enter_context(
            use_fastest_format(module, example, channels_last=config.compute.channels_last))
        passes = compile_passes(run, fabric, memory_format)
        updates = Updater(run, fabric, memory_format, outputs, passes.module)
        return Loop(run, fabric, updates, fingerprint, (*notes, *passes.notes)).train(progress)


def single_device_fabric(config: Training,
                         precision: ComputePrecision | None = None) -> Fabric:
    """A Fabric with one device and a precision; None for the one that the config requests.

    Raises:
        UsageError: There is no such device, or it does not support the precision.

    Example:
        >>> single_device_fabric(Training(compute="cpu")).device
        device(type='cpu')
    """
    return make_fabric(config, 1, "auto", precision)


def make_fabric(config: Training, devices: int, strategy: str | Strategy,
                precision: ComputePrecision | None = None) -> Fabric:
    """A Fabric with several devices and a strategy; see `single_device_fabric`."""
    # Loaded only here: it loads torchmetrics and scipy, which takes seconds.
    from lightning_fabric import Fabric  # noqa: PLC0415
    from lightning_fabric.plugins.precision import MixedPrecision  # noqa: PLC0415
    from lightning_fabric.utilities.exceptions import (  # noqa: PLC0415
        MisconfigurationException,
    )

    compute = config.compute
    try:
        fabric = Fabric(accelerator=compute.accelerator, devices=devices, strategy=strategy,
                        precision=precision or compute.resolve_precision())
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise UsageError(f"cannot train with accelerator={compute.accelerator!r}, devices="
                         f"{devices} and precision={compute.precision!r} on this machine: {error}"
                         ) from error
    if isinstance(fabric.strategy.precision, MixedPrecision):
        # Its inputs would be rounded; autocast converts what the layers need.
        fabric.strategy.precision.convert_input = _keep  # type: ignore[method-assign]
    return fabric


def _keep(data: Any) -> Any:
    return data


def _move(module: nn.Module, objective: Objective, device: torch.device) -> None:
    module.to(device)
    objective.to(device)
