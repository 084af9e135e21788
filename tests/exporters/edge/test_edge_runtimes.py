"""Files for ExecuTorch and LiteRT; skipped if the packages are not installed."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import MissingExtraError, ModelError
from edgewright.exporters import ExecuTorchEngine, export, to_executorch, to_litert
from edgewright.graph import output_errors
from edgewright.program import Program
from edgewright.quantization import Quantization, quantize
from edgewright.runtime import LiteRtEngine
from edgewright.task import Task

PACKAGES = {"executorch": ("executorch",), "litert": ("litert_torch", "ai_edge_litert")}


def needs(target: str) -> pytest.MarkDecorator:
    missing = [name for name in PACKAGES[target] if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed: pip "
                                                    f"install 'edgewright[{target}]'")


TARGETS = [
    pytest.param("executorch", to_executorch, ExecuTorchEngine, marks=needs("executorch")),
    pytest.param("litert", to_litert, LiteRtEngine, marks=needs("litert"))]


@pytest.mark.parametrize(("target", "translate", "module", "what"), [
    ("executorch", to_executorch, "executorch", "exporting to ExecuTorch"),
    ("litert", to_litert, "litert_torch", "exporting to LiteRT")])
def test_missing_extras_are_named(target: Any, translate: Any, module: str, what: str, blocks: Program, monkeypatch: pytest.MonkeyPatch,
                                            tmp_path: Path) -> None:
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
def test_file_matches_the_program(target: Any, translate: Any, engine: Any, blocks: Program, images: Tensor,
                                                 as_task: Callable[[Tensor], Task], tmp_path: Path) -> None:
    path = export(blocks, target, tmp_path / "float")
    have, = engine(path.read_bytes()).run((images.numpy(),))
    assert np.allclose(have, blocks.run(images).numpy(), rtol=1e-3, atol=1e-4)

    program = quantize(blocks, as_task(images), Quantization(target=target))
    content = translate(program)
    have, = engine(content).run((images.numpy(),))
    want = program.run(images).numpy()
    assert np.linalg.norm(have - want) < 0.02 * np.linalg.norm(want)
    assert translate(program) == content


class Shown(nn.Module):
    """A pooling whose every integer is seen in the outputs."""

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.pool, self.before, self.after = pool, nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
        nn.init.dirac_(self.after.weight)
        nn.init.zeros_(self.get_parameter("after.bias"))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.pool(self.before(x))).flatten(1)


@pytest.mark.parametrize("pool", [
    nn.AvgPool2d(2), nn.AvgPool2d(3, 2), nn.AvgPool2d((2, 3)), nn.AvgPool2d(2, 2, padding=1),
    nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), nn.AdaptiveAvgPool2d(2),
    nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.AvgPool2d(2), nn.AvgPool2d(2))], ids=str)
@pytest.mark.parametrize(("target", "translate", "engine"), TARGETS)
def test_pools_match_in_every_integer(target: Any, translate: Any, engine: Any, pool: Any,
                                      images: Tensor, as_task: Callable[[Tensor], Task]) -> None:
    torch.manual_seed(0)
    program = Program.capture(Shown(pool).eval(), images[:2])
    program = quantize(program, as_task(images), Quantization(target=target))
    step = min(cast(float, node.args[1]) for node in program.calls()
               if "dequantize_per_tensor" in str(node.target))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # nothing is slow
        have, = engine(translate(program)).run((images.numpy(),))
    assert np.abs(have - program.run(images).numpy()).max() < step / 100


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("is_quantized", [False, True])
@pytest.mark.parametrize(("target", "translate", "engine"), TARGETS)
def test_adaptive_max_pools_match(target: Any, translate: Any, engine: Any, is_quantized: bool, parts: int,
                                  images: Tensor, as_task: Callable[[Tensor], Task]) -> None:
    torch.manual_seed(0)
    program = Program.capture(Shown(nn.AdaptiveMaxPool2d(parts)).eval(), images[:2])
    if is_quantized:
        program = quantize(program, as_task(images), Quantization(target=target))
    with warnings.catch_warnings():
        if parts < 3:
            warnings.simplefilter("error", UserWarning)  # nothing is slow
        have, = engine(translate(program)).run((images.numpy(),))
    want = program.run(images).numpy()
    assert np.linalg.norm(have - want) < (0.02 if is_quantized else 1e-5) * np.linalg.norm(want)


class Floats(nn.Module):
    """Linear layers of which the first reads, and the last gives, what is not quantized."""

    def __init__(self, bias: Any) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(192, 64, bias=bias), nn.Linear(64, 100, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.gelu(self.body(x.flatten(1))))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("target", "translate", "engine"), TARGETS)
def test_float_linear_layers_are_stored_as_integers(target: Any, translate: Any, engine: Any, bits: int, bias: bool,
                                                           images: Tensor, as_task: Callable[[Tensor], Task]) -> None:
    torch.manual_seed(0)
    program = Program.capture(Floats(bias).eval(), images[:2])
    scheme = Quantization(target=target, weights=bits, first_last_bits=None)
    program = quantize(program, as_task(images), scheme)
    content = translate(program)
    weights = 192 * 64 + 64 * 100
    assert len(content) < weights + 12_000 < 4 * weights
    have, = engine(content).run((images.numpy(),))
    want = program.run(images).numpy()
    assert np.linalg.norm(have - want) < 1e-5 * np.linalg.norm(want)
    assert (have.argmax(1) == want.argmax(1)).all()


@needs("litert")
def test_weight_only_programs_store_integers_for_litert(blocks: Program, images: Tensor) -> None:
    program = quantize(blocks, None, Quantization(target="litert", activations=None))
    have, = LiteRtEngine(to_litert(program)).run((images.numpy(),))
    assert np.allclose(have, program.run(images).numpy(), rtol=1e-4, atol=1e-5)


@needs("executorch")
def test_operators_unsupported_by_xnnpack_are_counted_by_name() -> None:
    class Flip(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flip(1).relu().flip(1)

    with pytest.warns(UserWarning, match=r"XNNPACK does not support 2 flip; .* 200 times slower"):
        to_executorch(Program.capture(Flip(), torch.zeros(1, 3)))


@needs("executorch")
def test_only_the_mean_over_all_axes_is_not_delegated(blocks: Program, images: Tensor,
                                                      as_task: Callable[[Tensor], Task]) -> None:
    program = quantize(blocks, as_task(images), Quantization(target="executorch"))
    with pytest.warns(UserWarning, match="XNNPACK does not support") as caught:
        to_executorch(program)
    slow = " ".join(str(warning.message) for warning in caught)
    assert "mean" in slow
    assert not any(name in slow for name in ("conv", "addmm", "linear", "add.", "max_pool"))


class Stumbles(nn.Module):
    """What ExecuTorch's passes raise bare exceptions for, or compute wrongly."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.ConvTranspose2d(8, 8, 2, 2, groups=4), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1),
            nn.Mish(), nn.Conv2d(8, 8, 1))
        self.norm, self.slopes = nn.BatchNorm2d(8), nn.PReLU(4)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        y = self.body(x)
        y = nn.functional.softplus(y) + self.norm(y)
        return self.slopes(self.head(y.mean((2, 3)))), y


@pytest.fixture(scope="module")
def stumbles(images: Tensor) -> Any:
    torch.manual_seed(0)
    model = Stumbles().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model(images)
    return Program.capture(model.eval(), images[:2])


@pytest.mark.parametrize("scheme", [None, "executorch"])
@needs("executorch")
def test_executorch_passes_accept_the_rewritten_graph(scheme: str | None, stumbles: Any,
                                                      images: Tensor,
                                                      as_task: Callable[[Tensor], Task]) -> None:
    program = stumbles if scheme is None else quantize(stumbles, as_task(images),
                                                       Quantization(target=scheme))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # softplus and the mean are slow
        have = ExecuTorchEngine(to_executorch(program)).run((images[:8].numpy(),))
    errors = output_errors(program.run(images[:8]), [torch.from_numpy(array) for array in have])
    assert max(errors) < (1e-5 if scheme is None else 1e-2)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(("target", "translate", "engine"), TARGETS)
def test_conv1d_with_even_kernels_matches(target: Any, translate: Any, engine: Any,
                                          as_task: Callable[[Tensor], Task]) -> None:
    torch.manual_seed(0)
    x = torch.randn(32, 2, 16)
    model = nn.Sequential(nn.Conv1d(2, 8, 4, padding="same"), nn.PReLU(8),
                          nn.Conv1d(8, 8, 6, padding="same"), nn.ReLU(),
                          nn.Conv1d(8, 4, 3, stride=2, groups=2))
    program = quantize(Program.capture(model.eval(), x), as_task(x), Quantization(target=target))
    have, = engine(translate(program)).run((x.numpy(),))
    assert output_errors(program.run(x), torch.from_numpy(have))[0] < 1e-2


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(50, 8), nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Any:
        logits = self.head(self.words(ids).mean(1))
        return logits, logits.argmax(1)


@pytest.mark.parametrize(("target", "translate", "engine"), TARGETS)
def test_int64_ids_are_supported(target: Any, translate: Any, engine: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = Program.capture(Tokens(), torch.zeros(1, 10, dtype=torch.long))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an embedding is no product
        path = export(program, target, tmp_path / "model")
    ids = torch.randint(0, 50, (5, 10))
    logits, index = engine(path.read_bytes()).run((ids.numpy(),))
    want = program.run(ids)
    assert np.allclose(logits, want[0].numpy(), atol=1e-6)
    assert index.tolist() == want[1].tolist()


@needs("executorch")
def test_failing_passes_report_their_cause(monkeypatch: pytest.MonkeyPatch,
                                           blocks: Program) -> None:
    from executorch.backends.xnnpack._passes import FuseActivationPass  # noqa: PLC0415

    def fail(self: Any, module: nn.Module) -> None:
        raise KeyError("val")

    monkeypatch.setattr(FuseActivationPass, "call", fail)
    with pytest.raises(ModelError, match=r"the program has no ExecuTorch translation: An error "
                                         "occurred when running the 'FuseActivationPass' pass .*: "
                                         "KeyError: 'val'; replace the operator") as caught:
        to_executorch(blocks)
    assert "\n" not in str(caught.value)
