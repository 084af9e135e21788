"""Attention of any rank can be translated and gives the same results."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.runtime import OnnxEngine


class Attention(nn.Module):
    """The same queries, keys and values under several masks."""

    def __init__(self, shape: Any, options: Any) -> None:
        super().__init__()
        self.shape, self.options = shape, options
        self.layer = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Any:
        q, k, v = (part.reshape(x.shape[0], *self.shape, 6, -1)
                   for part in self.layer(x).chunk(3, -1))
        return [F.scaled_dot_product_attention(q, k, v, **one) for one in self.options]


CAUSAL = torch.full((6, 6), -float("inf")).triu(1)


@pytest.mark.parametrize("shape", [(), (2, 2)])
def test_attention_of_every_rank_and_mask(shape: tuple[Any, ...] | tuple[int, ...]) -> None:
    torch.manual_seed(0)
    masks = [torch.randn(*sizes, 6, 6) for sizes in ((1, *shape), shape[1:], (1, *shape[:1], 1))]
    options = [{}, {"is_causal": True}, {"attn_mask": CAUSAL},
               {"attn_mask": CAUSAL > -1, "scale": 0.3},
               *({"attn_mask": mask} for mask in masks if mask.ndim <= len(shape) + 3)]
    program = Program.capture(Attention(shape, options), torch.randn(2, 12, 8))
    engine = OnnxEngine(to_onnx(program))
    for batch in (1, 3):
        x = torch.randn(batch, 12, 8)
        for have, want in zip(engine.run((x.numpy(),)), program.run(x), strict=True):
            torch.testing.assert_close(torch.from_numpy(have), want, rtol=1e-4, atol=1e-5)
