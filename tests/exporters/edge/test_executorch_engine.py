"""The ExecuTorch engine on exported files; skipped if ExecuTorch is not installed."""

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
from edgewright.exporters import ExecuTorchEngine, to_executorch
from edgewright.program import Program

installed = pytest.mark.skipif(importlib.util.find_spec("executorch") is None,
                               reason="executorch is not installed: pip install "
                                      "'edgewright[executorch]'")


class Two(nn.Module):
    def forward(self, z: Tensor, a: Tensor) -> Any:
        return z - a, a * 2


@pytest.fixture(scope="module")
def engine() -> ExecuTorchEngine:
    inputs = torch.zeros(1, 3), torch.zeros(1, 3)
    return ExecuTorchEngine(to_executorch(Program.capture(Two(), inputs)))


def test_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch", None)
    with pytest.raises(MissingExtraError, match=r"running a model on ExecuTorch needs .*"
                                                r"pip install 'edgewright\[executorch\]'"):
        ExecuTorchEngine(b"")


@installed
def test_inputs_outputs_and_samples_keep_their_order(engine: ExecuTorchEngine) -> None:
    z, a = np.arange(15, dtype="f4").reshape(5, 3), np.full((5, 3), 2, "f4")
    difference, doubled = engine.run((z, a))
    assert np.array_equal(difference, z - a)
    assert np.array_equal(doubled, 2 * a)
    assert engine.runtime.startswith("executorch 1")


@installed
@pytest.mark.parametrize("content", [b"", b"\x00" * 80])
def test_models_that_cannot_be_loaded_are_rejected(content: Any) -> None:
    with pytest.raises(BundleError, match="cannot load the model") as caught:
        ExecuTorchEngine(content)
    assert "\n" not in str(caught.value)


@installed
@pytest.mark.parametrize("inputs", [
    (np.zeros((1, 3), "f4"),),
    (np.zeros((1, 3), "f8"), np.zeros((1, 3), "f4")),
    (np.zeros((1, 3), "f4"), np.zeros((1, 3), "i4")),
    (np.zeros((1, 3), "f4"), np.zeros((1, 4), "f4")),
    (np.zeros((1, 3), "f4"), np.zeros((2, 3), "f4")),
    (np.zeros((0, 3), "f4"), np.zeros((0, 3), "f4"))])
def test_inputs_that_do_not_fit_are_rejected(engine: ExecuTorchEngine,
                                             inputs: tuple[Any, ...]) -> None:
    with pytest.raises(BundleError, match="the model does not accept these inputs"):
        engine.run(inputs)


@installed
def test_several_threads_may_run_at_once(engine: ExecuTorchEngine) -> None:
    a = np.zeros((1, 3), "f4")
    with ThreadPoolExecutor(4) as pool:
        runs = pool.map(lambda i: engine.run((np.full((1, 3), i, "f4"), a))[0], range(32))
    assert [set(run.ravel().tolist()) for run in runs] == [{float(i)} for i in range(32)]
