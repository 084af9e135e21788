"""The LiteRT engine on files of our own; skipped where it is not installed."""

from __future__ import annotations

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import BundleError, MissingExtraError
from edgewright.exporters import to_litert
from edgewright.program import Program
from edgewright.runtime import LiteRtEngine

installed = pytest.mark.skipif(importlib.util.find_spec("ai_edge_litert") is None
                               or importlib.util.find_spec("litert_torch") is None,
                               reason="litert is not installed: pip install 'edgewright[litert]'")


class Two(nn.Module):
    def forward(self, z: Tensor, a: Tensor) -> Any:
        return z - a[:, :, :1, :1].flatten(1), -a


@pytest.fixture(scope="module")
def engine() -> LiteRtEngine:
    inputs = torch.zeros(1, 3), torch.zeros(1, 3, 2, 4)
    return LiteRtEngine(to_litert(Program.capture(Two(), inputs)))


def test_the_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingExtraError, match=r"running a model on LiteRT needs .*"
                                                r"pip install 'edgewright\[litert\]'"):
        LiteRtEngine(b"")


@installed
def test_inputs_outputs_channels_and_samples_keep_their_order(engine: LiteRtEngine) -> None:
    z, a = np.arange(15, dtype="f4").reshape(5, 3), np.arange(120, dtype="f4").reshape(5, 3, 2, 4)
    difference, negated = engine.run((z, a))
    assert np.array_equal(difference, z - a[:, :, 0, 0])
    assert np.array_equal(negated, -a)
    assert engine.runtime.startswith("litert 2")


@installed
@pytest.mark.parametrize("content", [b"", b"\x00" * 40])
def test_a_model_that_cannot_be_loaded(content: Any) -> None:
    with pytest.raises(BundleError, match="cannot load the model") as caught:
        LiteRtEngine(content)
    assert "\n" not in str(caught.value)


@installed
@pytest.mark.parametrize("inputs", [
    (np.zeros((1, 3), "f4"),),
    (np.zeros((1, 3), "i4"), np.zeros((1, 3, 2, 4), "f4")),
    (np.full((1, 3), 1e39), np.zeros((1, 3, 2, 4), "f4")),
    (np.zeros((1, 3), "f4"), np.zeros((1, 2, 4, 3), "f4")),
    (np.zeros((1, 3), "f4"), np.zeros((2, 3, 2, 4), "f4")),
    (np.zeros((0, 3), "f4"), np.zeros((0, 3, 2, 4), "f4"))])
def test_inputs_that_do_not_fit(engine: LiteRtEngine, inputs: tuple[Any, ...]) -> None:
    with pytest.raises(BundleError, match="the model does not accept these inputs"):
        engine.run(inputs)


@installed
def test_several_threads_may_run_at_once(engine: LiteRtEngine) -> None:
    a = np.zeros((1, 3, 2, 4), "f4")
    with ThreadPoolExecutor(4) as pool:
        runs = pool.map(lambda i: engine.run((np.full((1, 3), i, "f4"), a))[0], range(32))
    assert [set(run.ravel().tolist()) for run in runs] == [{float(i)} for i in range(32)]


class Typed(nn.Module):
    """Inputs whose types LiteRT's converter narrows or keeps, and an index."""

    def forward(self, ids: Tensor, wide: Tensor, bits: Tensor, flags: Tensor) -> Any:
        total = ids.float().sum(1) + wide.float().sum(1) + bits.float().sum(1)
        return torch.where(flags, total[:, None], -total[:, None]), ids


@pytest.fixture(scope="module")
def typed() -> tuple[Any, ...]:
    inputs = (torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 2),
              torch.zeros(1, 2, dtype=torch.uint8), torch.zeros(1, 2, dtype=torch.bool))
    program = Program.capture(Typed(), inputs)
    return program, LiteRtEngine(to_litert(program))


@installed
def test_numbers_wider_than_the_files_are_taken_where_they_fit(typed: Any) -> None:
    program, engine = typed
    ids = torch.tensor([[1, 2, 39], [0, 0, 5]])
    inputs = (ids, torch.tensor([[0.5, 0.5], [2.0, 2.0]]),
              torch.tensor([[255, 1], [0, 7]], dtype=torch.uint8), torch.tensor([[True, False]] * 2))
    wide = [tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs]
    have, index = engine.run(tuple(tensor.numpy() for tensor in wide))
    assert np.allclose(have, program.run(*inputs)[0].numpy())
    assert np.array_equal(index, ids.numpy())


@installed
def test_an_id_beyond_the_files_integers_is_refused(typed: Any) -> None:
    _, engine = typed
    others = np.zeros((1, 2)), np.zeros((1, 2), "u1"), np.zeros((1, 2), "?")
    with pytest.raises(BundleError, match=r"the model does not accept these inputs: input 0 contains "
                                          r"3000000000, but the file takes int32, from -2147483648 "
                                          r"to 2147483647$"):
        engine.run((np.array([[0, 3_000_000_000, 0]]), *others))
