"""One step of the optimizer."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from edgewright.task import Batch
from edgewright.training._average import make_moving_average
from edgewright.training._evaluate import to_device
from edgewright.training._memory_format import to_memory_format
from edgewright.training._mixing import mix_batch
from edgewright.training._outputs import split_exits
from edgewright.training._parameter_groups import make_optimizer
from edgewright.training._run import Run
from edgewright.training._seeds import step_seed
from edgewright.training._sharding import split_batch
from edgewright.training._step_hook import Step

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@final
class Updater:
    """Performs optimizer steps on a module and updates its moving average, if there is one.

    Args:
        run: The run; its module is on the fabric's device.
        fabric: Device, precision, and synchronization with other devices.
        memory_format: Memory format of 4-D inputs.
        outputs: What the module returns for some batch.
        passes: The module to call: the run's own, or a compiled wrapper.
    """

    def __init__(self, run: Run, fabric: Fabric, memory_format: torch.memory_format,
                 outputs: Any, passes: nn.Module) -> None:
        self._run, self._fabric = run, fabric
        self._memory_format, self._outputs = memory_format, outputs
        self.average = (None if run.config.ema is None else
                        make_moving_average(run.module, run.config.ema))
        self.model, self.optimizer = fabric.setup(
            passes, make_optimizer(run.module, run.config))

    def __call__(self, batch: Batch, step: Step, samples: int) -> Tensor:
        """Take one step.

        Args:
            batch: This device's shard of the step's samples.
            step: The step.
            samples: Number of samples of the step on all devices.

        Returns:
            The mean loss of all these samples, a scalar.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = step.lr * group["size"]
        loss = self._gradients(self._prepare(batch, step), samples)
        hooks = self._run.objective.hooks
        with torch.no_grad():
            self._fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
            for hook in hooks:
                hook.before_step(step)
            if self._run.config.clip_norm is not None:
                clip_grad_norm_(self._run.module.parameters(), self._run.config.clip_norm)
            self.optimizer.step()
            for hook in hooks:
                hook.after_step(step)
            if self.average is not None:
                self.average.update_parameters(self._run.module)
        self.optimizer.zero_grad()
        return loss

    def _prepare(self, batch: Batch, step: Step) -> Batch:
        seed = step_seed(self._run.seed, step.index, self._fabric.global_rank)
        batch = mix_batch(to_device(batch, self._fabric.device), self._run.config.augment,
                          self._run.task.goal, self._outputs, seed)
        return batch._replace(inputs=to_memory_format(batch.inputs, self._memory_format))

    def _gradients(self, batch: Batch, samples: int) -> Tensor:
        """Compute the gradients of the mean loss over all samples, weighting parts by size.

        DDP averages the devices' gradients, so each device scales its own by their number.
        """
        objective = self._run.objective
        losses, batches = [], split_batch(batch, self._run.config.accumulate)
        for part in batches:
            with self._fabric.no_backward_sync(self.model, enabled=part is not batches[-1]):
                outputs = split_exits(self.model(*part.inputs), self._run.exits,
                                      objective.features)
                with self._fabric.autocast():
                    loss = objective.loss(outputs, part)
                share = part.size / samples
                self._fabric.backward(loss, gradient=torch.full_like(
                    loss, share * self._fabric.world_size))
            losses.append(loss.detach() * share)
        total: Tensor = self._fabric.all_reduce(  # type: ignore[assignment]
            reduce(torch.add, losses), reduce_op="sum")
        return total
