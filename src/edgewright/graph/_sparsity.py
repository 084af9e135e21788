"""Which stored tensors are held sparse: the zeros they have now are zeros for good."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from torch.fx import GraphModule

from edgewright.graph._tensors import stored_tensors

_KEY: Final = "edgewright.sparse"


def sparse_tensors(module: GraphModule) -> tuple[str, ...]:
    """Names of the tensors whose zeros every training keeps, sorted.

    They travel with the graph module: through copies, slicing, folding and quantisation.
    """
    held = module.meta.get(_KEY, ())
    return tuple(sorted(set(held) & stored_tensors(module).keys())) if held else ()


def hold_sparse(module: GraphModule, names: Iterable[str]) -> None:
    """Have every later training keep the zeros of these tensors, in place."""
    module.meta[_KEY] = tuple(sorted({*module.meta.get(_KEY, ()), *names}))
