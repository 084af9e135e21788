"""Labels propagate through every kind of convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from edgewright.channels import ChannelGroups

IMAGE = torch.zeros(1, 3, 6, 6)


def conv(inputs: Any, outputs: Any, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


CHAINS = {
    "plain": (lambda: (conv(3, 8), nn.ReLU(), conv(8, 4)), IMAGE, {"0.weight": 8}),
    "without_bias": (lambda: (conv(3, 8, bias=False), conv(8, 4, bias=False)), IMAGE,
                     {"0.weight": 8}),
    "same_padding": (lambda: (conv(3, 8), nn.Conv2d(8, 8, 3, padding="same"), conv(8, 4)), IMAGE,
                     {"0.weight": 8, "1.weight": 8}),
    "reflected": (lambda: (conv(3, 8), conv(8, 6, padding_mode="reflect"), conv(6, 4)), IMAGE,
                  {"0.weight": 8, "1.weight": 6}),
    "one_dimension": (lambda: (nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Conv1d(8, 4, 1)),
                      torch.zeros(1, 3, 9), {"0.weight": 8}),
    "three_dimensions": (lambda: (nn.Conv3d(2, 6, 2), nn.BatchNorm3d(6), nn.Conv3d(6, 2, 2)),
                         torch.zeros(1, 2, 4, 4, 4), {"0.weight": 6}),
    "depthwise": (lambda: (conv(3, 8), conv(8, 8, groups=8), conv(8, 4)), IMAGE, {"0.weight": 8}),
    "depthwise_multiplier": (lambda: (conv(3, 8), conv(8, 16, groups=8), conv(16, 4)), IMAGE,
                             {"0.weight": 8, "1.weight by 8": 2}),
    "grouped": (lambda: (conv(3, 8), conv(8, 12, groups=2), conv(12, 4)), IMAGE,
                {"0.weight by 2": 4, "0.weight by 4": 2, "1.weight by 2": 6}),
    "grouped_twice": (lambda: (conv(3, 8), conv(8, 12, groups=4), conv(12, 8, groups=2),
                               conv(8, 4)), IMAGE,
        {"0.weight by 4": 2, "1.weight by 4": 3, "0.weight by 4 (2)": 2,
         "2.weight by 2": 4, "0.weight by 4 (3)": 2}),
    "grouped_input": (lambda: (conv(4, 8, groups=2), conv(8, 2)), torch.zeros(1, 4, 6, 6),
                      {"0.weight by 2": 4}),
    "transposed": (lambda: (conv(3, 8), nn.ConvTranspose2d(8, 6, 2, stride=2), conv(6, 4)), IMAGE,
                   {"0.weight": 8, "1.weight": 6}),
    "transposed_without_bias": (lambda: (conv(3, 8), nn.ConvTranspose2d(8, 6, 2, bias=False),
                                         conv(6, 4)), IMAGE, {"0.weight": 8, "1.weight": 6}),
    "transposed_1d": (lambda: (nn.Conv1d(3, 8, 3), nn.ConvTranspose1d(8, 6, 3),
                               nn.Conv1d(6, 4, 1)), torch.zeros(1, 3, 9),
        {"0.weight": 8, "1.weight": 6}),
    "transposed_3d": (lambda: (nn.Conv3d(2, 6, 2), nn.ConvTranspose3d(6, 4, 2),
                               nn.Conv3d(4, 2, 2)), torch.zeros(1, 2, 4, 4, 4),
        {"0.weight": 6, "1.weight": 4}),
    "transposed_grouped": (lambda: (conv(3, 8), nn.ConvTranspose2d(8, 12, 2, groups=2),
                                    conv(12, 4)), IMAGE,
        {"1.weight": 6, "0.weight by 4": 2, "0.weight by 2": 4}),
    "transposed_depthwise": (lambda: (conv(3, 8), nn.ConvTranspose2d(8, 8, 2, groups=8),
                                      conv(8, 4)), IMAGE, {"0.weight": 8}),
}


@pytest.mark.parametrize("name", CHAINS)
def test_masked_equals_sliced(name: Any, hold: Callable[..., ChannelGroups]) -> None:
    build, inputs, expected = CHAINS[name]
    found = hold(nn.Sequential(*build()), inputs)
    assert {group.name: len(group.channels) for group in found.groups} == expected
