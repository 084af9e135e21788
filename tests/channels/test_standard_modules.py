"""Size attributes of torch's own modules follow their weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import nn

from edgewright.channels._standard_modules import collect_sizes, size_attributes
from edgewright.program import Program


def resized(module: nn.Module, **shapes: Any) -> Any:
    """The module with tensors of other shapes; its attributes lie about them."""
    for name, shape in shapes.items():
        old = getattr(module, name)
        old.data = torch.zeros(shape, dtype=old.dtype)
    return module


MODULES = {
    "conv": (resized(nn.Conv2d(8, 12, 3), weight=(6, 5, 3, 3)), {},
             {"in_channels": 5, "out_channels": 6, "groups": 1}),
    "grouped": (resized(nn.Conv2d(8, 12, 3, groups=4), weight=(6, 2, 3, 3)), {"groups": 2},
                {"in_channels": 4, "out_channels": 6, "groups": 2}),
    "transposed": (resized(nn.ConvTranspose1d(8, 12, 3, groups=4), weight=(4, 3, 3)),
                   {"groups": 2}, {"in_channels": 4, "out_channels": 6, "groups": 2}),
    "linear": (resized(nn.Linear(8, 12), weight=(5, 3)), {}, {"in_features": 3, "out_features": 5}),
    "batch_norm": (resized(nn.BatchNorm3d(8), weight=(5,)), {}, {"num_features": 5}),
    "plain_batch_norm": (resized(nn.BatchNorm1d(8, affine=False), running_mean=(5,)), {},
                         {"num_features": 5}),
    "bare_instance_norm": (nn.InstanceNorm2d(8), {}, {}),
    "layer_norm": (resized(nn.LayerNorm((4, 8)), weight=(4, 5)), {}, {"normalized_shape": (4, 5)}),
    "rms_norm": (resized(nn.RMSNorm(8), weight=(5,)), {}, {"normalized_shape": (5,)}),
    "bare_layer_norm": (nn.LayerNorm(8, elementwise_affine=False), {}, {}),
    "group_norm": (resized(nn.GroupNorm(4, 8), weight=(6,)), {"groups": 3},
                   {"num_channels": 6, "num_groups": 3}),
    "bare_group_norm": (nn.GroupNorm(4, 8, affine=False), {}, {}),
    "embedding": (resized(nn.Embedding(9, 8), weight=(9, 5)), {},
                  {"num_embeddings": 9, "embedding_dim": 5}),
    "prelu": (resized(nn.PReLU(8), weight=(5,)), {}, {"num_parameters": 5}),
    "attention": (resized(nn.MultiheadAttention(8, 4), in_proj_weight=(18, 6)), {"head_dim": 2},
                  {"embed_dim": 8, "head_dim": 2, "num_heads": 4, "kdim": 8, "vdim": 8}),
    "attention_of_others": (nn.MultiheadAttention(8, 2, kdim=5, vdim=6), {},
                            {"embed_dim": 8, "head_dim": 4, "num_heads": 2, "kdim": 5, "vdim": 6}),
    "anything_else": (nn.ReLU(), {"groups": 2}, {}),
}


@pytest.mark.parametrize("name", MODULES)
def test_sizes_follow_the_weights(name: Any) -> None:
    module, facts, want = MODULES[name]
    have = size_attributes(module, facts)
    assert have == want
    assert all(hasattr(module, attribute) for attribute in have)


@pytest.mark.parametrize("module", [
    nn.Conv1d(4, 8, 3, groups=2), nn.ConvTranspose2d(6, 9, 3, groups=3), nn.Linear(3, 5),
    nn.BatchNorm2d(4), nn.GroupNorm(2, 6), nn.MultiheadAttention(12, 3), nn.Embedding(5, 3),
    nn.InstanceNorm1d(4, affine=True), nn.PReLU(3), nn.LayerNorm((2, 3))])
def test_an_unchanged_module_already_has_these_sizes(module: Any) -> None:
    facts = {"groups": getattr(module, "groups", getattr(module, "num_groups", 1))}
    assert all(getattr(module, name) == value
               for name, value in size_attributes(module, facts).items())


def test_groups_and_head_widths_are_read_from_the_graph(net: type[Net]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        y = m.norm(m.deep(x)).flatten(2).transpose(1, 2)
        return m.heads(y, y, y)[0]

    model = net(forward, deep=nn.Conv2d(8, 8, 3, groups=4), norm=nn.GroupNorm(2, 8),
                heads=nn.MultiheadAttention(8, 2, batch_first=True))
    facts = collect_sizes(Program.capture(model, torch.zeros(1, 8, 6, 6)).graph)
    assert facts["deep.weight"]["groups"] == 4
    assert facts["norm.weight"]["groups"] == 2
    assert facts["heads.in_proj_weight"]["head_dim"] == 4
