"""Post-training and quantisation-aware quantisation, through torchao's PT2E."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, final

import torch
from torch import nn
from torch.fx import GraphModule

from edgewright.errors import UsageError
from edgewright.program import Program, fold_batch_norm, trainable
from edgewright.quantization._config import Quantization
from edgewright.quantization._convert import finish
from edgewright.quantization._quantizer import EdgeQuantizer
from edgewright.quantization._torchao import (
    convert_pt2e,
    disable_observer,
    enable_observer,
    prepare_pt2e,
    prepare_qat_pt2e,
)
from edgewright.task import Task
from edgewright.training import LabelLoss, Objective, Progress, train

_BATCH = 64


def quantize(program: Program, task: Task, config: Quantization | None = None, *,
             objective: Objective | None = None, seed: int = 0,
             checkpoint: Path | None = None, progress: Progress | None = None) -> Program:
    """Quantise a program's weights and activations.

    Batch norm is folded first. Ranges come from the training split: by histogram (post-training)
    or by moving average while training. What is not quantised stays in float: the logits, and
    operators outside the runtime's integer kernels.

    Args:
        program: In floating point.
        task: Its data and loss.
        config: How; post-training int8 if left out.
        objective: What ``qat`` minimises; the label loss if left out.
        seed: Of the order of the samples.
        checkpoint: Where ``qat`` keeps its state, to be resumed from.
        progress: Shows ``qat``'s progress.

    Raises:
        UsageError: The program is quantised already.

    Example:
        >>> import edgewright as ew
        >>> import torch
        >>> task = ew.Task((torch.randn(64, 4), torch.arange(64) % 3),
        ...                test=(torch.randn(8, 4), torch.arange(8) % 3))
        >>> program = ew.Program.capture(torch.nn.Linear(4, 3), torch.zeros(1, 4))
        >>> ew.quantize(program, task).is_quantized
        True
    """
    config = config or Quantization()
    if program.is_quantized:
        raise UsageError("the program is quantised already; quantise the one in floating point")
    folded = fold_batch_norm(program)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if config.method == "ptq":
            prepared = prepare_pt2e(folded.copy().graph_module, EdgeQuantizer(train=False))
            _calibrate(prepared, task, config.calibration_samples, seed)
        else:
            body = prepare_qat_pt2e(folded.copy().graph_module, EdgeQuantizer(train=True))
            network = _FakeQuantized(body)
            _calibrate(network.body, task, config.calibration_samples, seed)
            train(network, task, config.training,
                  objective or LabelLoss(config.training.label_smoothing), seed=seed,
                  checkpoint=checkpoint, progress=progress)
            prepared = network.eval().body.cpu()
        return finish(convert_pt2e(prepared), folded)


@final
class _FakeQuantized(nn.Module):
    """A network with fake quantisers whose ranges move in training and rest in evaluation."""

    def __init__(self, prepared: GraphModule) -> None:
        super().__init__()
        self.body = trainable(prepared)

    def forward(self, *inputs: Any) -> Any:
        return self.body(*inputs)

    def train(self, mode: bool = True) -> _FakeQuantized:
        super().train(mode)
        self.body.apply(enable_observer if mode else disable_observer)
        return self


def _calibrate(module: GraphModule, task: Task, samples: int, seed: int) -> None:
    """Show ``samples`` training samples to a network's observers."""
    seen = 0
    with torch.no_grad():
        for batch in task.train.batches(_BATCH, shuffle_seed=seed):
            room = samples - seen
            module(*(tensor[:room] for tensor in batch.inputs))
            seen += min(room, len(batch.targets))
            if seen >= samples:
                return

