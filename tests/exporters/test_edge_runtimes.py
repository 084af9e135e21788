"""Files for ExecuTorch and LiteRT; each skipped where its packages are not installed."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import torch
from torch import nn

from edgewright.errors import MissingExtraError
from edgewright.exporters import ExecuTorchEngine, export, to_executorch, to_litert
from edgewright.program import Program
from edgewright.quantization import Quantization, quantize
from edgewright.runtime import LiteRtEngine

PACKAGES = {"executorch": ("executorch",), "litert": ("litert_torch", "ai_edge_litert")}


def needs(target):
    missing = [name for name in PACKAGES[target] if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed: pip "
                                                    f"install 'edgewright[{target}]'")


TARGETS = [
    pytest.param("executorch", to_executorch, ExecuTorchEngine, marks=needs("executorch")),
    pytest.param("litert", to_litert, LiteRtEngine, marks=needs("litert"))]


@pytest.mark.parametrize(("target", "translate", "module", "what"), [
    ("executorch", to_executorch, "executorch", "exporting to ExecuTorch"),
    ("litert", to_litert, "litert_torch", "exporting to LiteRT")])
def test_the_extra_that_is_missing_is_named(target, translate, module, what, blocks, monkeypatch,
                                            tmp_path):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    message = rf"{what} needs .*pip install 'edgewright\[{target}\]'"
    with pytest.raises(MissingExtraError, match=message):
        translate(blocks)
    with pytest.raises(MissingExtraError, match=message):
        export(blocks, target, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("target", "translate", "engine"), TARGETS)
def test_the_file_computes_what_the_program_does(target, translate, engine, blocks, images,
                                                 as_task, tmp_path):
    path = export(blocks, target, tmp_path / "float")
    have, = engine(path.read_bytes()).run((images.numpy(),))
    assert np.allclose(have, blocks.run(images).numpy(), rtol=1e-3, atol=1e-4)

    program = quantize(blocks, as_task(images), Quantization(target=target))
    content = translate(program)
    have, = engine(content).run((images.numpy(),))
    want = program.run(images).numpy()
    assert np.linalg.norm(have - want) < 0.02 * np.linalg.norm(want)
    assert translate(program) == content


@needs("executorch")
def test_what_xnnpack_does_not_take_is_counted_by_name():
    class Flip(nn.Module):
        def forward(self, x):
            return x.flip(1).relu().flip(1)

    with pytest.warns(UserWarning, match=r"XNNPACK does not take 2 flip; .* 200 times slower"):
        to_executorch(Program.capture(Flip(), torch.zeros(1, 3)))


@needs("executorch")
def test_of_a_quantised_network_only_the_mean_without_its_axes_is_slow(blocks, images, as_task):
    program = quantize(blocks, as_task(images), Quantization(target="executorch"))
    with pytest.warns(UserWarning, match="XNNPACK does not take") as caught:
        to_executorch(program)
    slow = " ".join(str(warning.message) for warning in caught)
    assert "mean" in slow
    assert not any(name in slow for name in ("conv", "addmm", "linear", "add.", "max_pool"))
