"""The networks that the boards run, quantized."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

import edgewright as ew
from benchmarks.common.paths import RESNETS
from benchmarks.search.resnet8 import BYTES, load_resnet8
from edgewright.program import Program
from edgewright.task import Task, load_model, load_task


class Model(NamedTuple):
    """A network and the bits of its weights."""

    network: str
    weight_bits: int = 8


MODELS: Final = {
    "resnet8 int8": Model("resnet8"),
    "resnet8 4 bits": Model("resnet8", weight_bits=4),
    "resnet20 int8": Model("resnet20"),
}


def load(model: Model, data: str, weights: Path) -> tuple[nn.Module, Task]:
    """The network in floating point, and CIFAR-10 as it wants its inputs."""
    if model.network == "resnet8":
        return load_resnet8(weights), load_task(f"cifar10:{data}", normalize=BYTES)
    file = weights / f"{model.network}-cifar10.safetensors"
    return (load_model(f"{RESNETS}:{model.network}", file).eval(),
            load_task(f"cifar10:{data}", normalize="imagenet"))


def quantize(model: Model, network: nn.Module, task: Task, target: Any = "c") -> Program:
    """The network with weights of the model's bits, after training."""
    program = Program.capture(network, task.train.example(2))
    return ew.quantize(program, task, ew.Quantization(target=target, weights=model.weight_bits))


def test_images(task: Task, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The first test images and their classes."""
    batch = next(task.test.select(range(count)).batches(count))
    return batch.inputs[0].numpy(), batch.targets.numpy()
