"""Keeping recurrent layers whole while torch computes shapes or exports a graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Final

import torch
from torch import Tensor
from torch._decomp import decomposition_table

from edgewright.graph import ops

_KEYS: Final = (torch._C.DispatchKey.CompositeImplicitAutograd, torch._C.DispatchKey.Autograd)


@contextlib.contextmanager
def keep_recurrent_layers_whole() -> Iterator[None]:
    """Let torch compute the shapes of a recurrent layer from its arguments.

    By default it unrolls the layer into its steps even where only shapes are needed, which fixes
    the number of steps, and takes long if there are many. Only graphs of fake tensors may run
    inside: the results have no values. What decomposes recurrent layers on purpose (translations to
    runtimes that have none) has to run outside.
    """
    with contextlib.ExitStack() as undo:
        undo.enter_context(_replaced(decomposition_table, ops.RECURRENT_LAYERS))
        for operator in ops.RECURRENT_LAYERS:
            undo.enter_context(_replaced(operator.py_kernels, _KEYS))
            operator._dispatch_cache.clear()
            undo.callback(operator._dispatch_cache.clear)
        yield


@contextlib.contextmanager
def _replaced(table: MutableMapping[Any, Callable[..., Any]], keys: Any) -> Iterator[None]:
    """Let the entries of a table compute shapes alone."""
    kept = {key: table[key] for key in keys if key in table}
    table.update(dict.fromkeys(keys, _result_shapes))
    try:
        yield
    finally:
        for key in keys:
            del table[key]
        table.update(kept)


def _result_shapes(source: Tensor, hx: Any, *settings: Any) -> tuple[Tensor, ...]:
    """Results of the right shapes without values: the output of every step, and the last states."""
    *_, bidirectional, _ = settings
    states = hx if isinstance(hx, list | tuple) else [hx]
    width = states[0].shape[-1] * (2 if bidirectional else 1)
    return source.new_empty((*source.shape[:-1], width)), *map(torch.empty_like, states)
