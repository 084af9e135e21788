"""Channels-last features between files change the layout and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgewright.exits import EarlyExits, add_exits
from edgewright.exporters import to_onnx, use_channels_last_features
from edgewright.program import Program, split_at_exits
from edgewright.quantization import quantize
from edgewright.runtime import OnnxEngine
from edgewright.task import Task


class Mixed(nn.Module):
    """A convolution and, behind it, what reads pictures without one."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.rows = nn.Linear(6, 6)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.convolution(x))
        x = torch.relu(self.rows(x))
        return self.head(x.mean((2, 3)))


def files_of(program: Program) -> Any:
    return [to_onnx(part) for part in split_at_exits(program)]


def outputs(files: Any, x: Any) -> Any:
    """What every file puts out, each fed with the last output of the one before."""
    found = []
    for file in files:
        found.append(OnnxEngine(file).run((x,)))
        x = found[-1][-1]
    return found


@pytest.fixture(scope="module")
def staged(blocks: Program, images: Tensor, as_task: Callable[[Tensor], Task]) -> Any:
    program = add_exits(blocks, as_task(images), EarlyExits(places=("relu", "relu_1"), training=None))
    return quantize(program, as_task(images))


def test_integer_images_are_passed_with_channels_last(staged: Any, images: Tensor) -> None:
    plain = files_of(staged)
    ordered = use_channels_last_features(plain)
    x = images[:5].numpy()
    for before, after in zip(outputs(plain, x), outputs(ordered, x), strict=True):
        np.testing.assert_array_equal(before[0], after[0])
        if len(before) > 1:
            assert before[1].dtype == after[1].dtype == np.uint8
            np.testing.assert_array_equal(before[1].transpose(0, 2, 3, 1), after[1])
    stated = [onnx.load_from_string(file).graph for file in ordered]
    for before, after in pairwise(stated):
        given, taken = ([size.dim_value for size in value.type.tensor_type.shape.dim]
                        for value in (before.output[-1], after.input[0]))
        assert given == taken
        assert after.node[0].op_type == "Transpose"
    for file in ordered:
        onnx.checker.check_model(onnx.load_from_string(file), full_check=True)


def test_floats_and_single_files_are_unchanged(blocks: Program, images: Tensor,
                                               as_task: Callable[[Tensor], Task]) -> None:
    floats = files_of(add_exits(blocks, as_task(images), EarlyExits(places=("relu", "relu_1"), training=None)))
    assert list(use_channels_last_features(floats)) == floats
    assert use_channels_last_features(floats[:1]) == (floats[0],)


def test_features_not_read_by_convolutions_are_unchanged(as_task: Callable[[Tensor], Task]) -> None:
    torch.manual_seed(0)
    images = torch.randn(32, 3, 6, 6)
    program = Program.capture(Mixed().eval(), images[:2])
    config = EarlyExits(places=("relu",), head="pooled", training=None)
    files = files_of(quantize(add_exits(program, as_task(images), config), as_task(images)))
    feature = onnx.load_from_string(files[0]).graph.output[-1].type.tensor_type
    assert len(feature.shape.dim) == 4
    assert list(use_channels_last_features(files)) == files
