"""Which stored tensors are marked sparse: training keeps the zeros they have now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from torch.fx import GraphModule

from edgewright.graph._tensors import stored_tensors

_KEY: Final = "edgewright.sparse"


def sparse_tensors(module: GraphModule) -> tuple[str, ...]:
    """Names of the tensors whose zeros every training keeps, sorted.

    They are kept with the graph module through copies, slicing, folding and quantization.
    """
    marked = module.meta.get(_KEY, ())
    return tuple(sorted(set(marked) & stored_tensors(module).keys())) if marked else ()


def mark_sparse(module: GraphModule, names: Iterable[str]) -> None:
    """Mark tensors as sparse, in place: every later training keeps their zeros."""
    module.meta[_KEY] = tuple(sorted({*module.meta.get(_KEY, ()), *names}))
