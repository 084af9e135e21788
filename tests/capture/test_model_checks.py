"""Models and inputs that cannot be captured are refused with a message that says what to do."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import Tensor, fx, nn

from edgewright.errors import ModelError
from edgewright.program import Program

ROW = torch.zeros(1, 4)


def small() -> Any:
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()


def exported() -> Any:
    return torch.export.export(small(), (torch.zeros(2, 4),),
                               dynamic_shapes=({0: torch.export.Dim("batch")},))


def sparse() -> Any:
    model = nn.Linear(4, 3)
    model.weight = nn.Parameter(model.weight.detach().to_sparse_csr())
    return model


def half_meta() -> Any:
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2, device="meta"))


class KeywordOnly(nn.Module):
    def forward(self, x: Tensor, *, mask: Tensor) -> Tensor:
        return x + mask


@pytest.mark.parametrize(("make", "message"), [
    (lambda: small().state_dict(), "a state dict of 2 entries.*load_state_dict"),
    (lambda: {"model": small().state_dict(), "epoch": 3}, "a dict of 2 entries"),
    (lambda: nn.ReLU, r"the class ReLU, not an instance of it: ReLU\(\.\.\.\)"),
    (lambda: small, "the model is a function; pass the torch.nn.Module itself"),
    (lambda: "model.pt", "the path 'model.pt'; load it first"),
    (lambda: None, "the model is None"),
    (lambda: [small()], "the model is a list"),
    (exported, "an ExportedProgram"),
    (lambda: exported().module(), "module of an ExportedProgram.*pass the nn.Module"),
    (lambda: torch.jit.script(small()), "the model is a TorchScript module"),
    (lambda: torch.jit.trace(small(), ROW), "the model is a TorchScript module"),
    (lambda: nn.Sequential(torch.jit.script(small())), "the submodule 0 is a TorchScript module"),
    (lambda: nn.Linear(4, 3, device="meta"), "weight is on the meta device"),
    (half_meta, "1.weight is on the meta device and has no values"),
    (lambda: nn.LazyLinear(3), "weight has no shape yet; run the model once"),
    (sparse, r"weight is stored as torch.sparse_csr; call .to_dense\(\)"),
    (lambda: small().half(), r"the weight 0.weight is float16.*call model.float\(\) first"),
    (lambda: small().bfloat16(), "the weight 0.weight is bfloat16"),
    (lambda: small().double(), "the weight 0.weight is float64"),
    (lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2).half()), "the weight 1.weight is fl"),
    (lambda: nn.Linear(4, 3, dtype=torch.complex64), "complex64.*a real and an imaginary part"),
    (KeywordOnly, "its forward takes.*mask can only be passed by name: kwargs={'mask': ...}"),
])
def test_unsupported_models_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        Program.capture(make(), ROW)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrap", [
    nn.DataParallel, torch.compile, fx.symbolic_trace,
    lambda model: torch.compile(nn.DataParallel(model)),
], ids=["parallel", "compiled", "traced", "both"])
def test_parallel_and_compile_wrappers_are_removed(wrap: Any) -> None:
    model = small()
    program = Program.capture(wrap(model), ROW)
    assert sorted(program.state_dict()) == ["0.bias", "0.weight"]
    x = torch.randn(3, 4)
    torch.testing.assert_close(program.run(x), model(x).detach())


@pytest.mark.parametrize(("inputs", "message"), [
    (ROW.half(), r"example input 0 is float16.*call .float\(\) on it"),
    (ROW.double(), "example input 0 is float64"),
    (ROW.to(torch.float8_e4m3fn), "example input 0 is float8_e4m3fn"),
    (ROW.to(torch.complex64), "complex64.*as two channels"),
    (ROW.to_sparse(), "example input 0 is a sparse_coo tensor"),
    (ROW.to("meta"), "strided tensor on meta; pass a dense tensor with values"),
    (ROW.numpy(), r"got ndarray \(torch.from_numpy\)"),
    ((torch.zeros(3, 4), torch.zeros(2, 3, 8)), "batch must be the first.*transpose"),
])
def test_unsupported_inputs_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Program.capture(small(), inputs)


def cast(x: Any, dtype: Any) -> Any:
    return (x.to(dtype) * 2).float()


def autocast(x: Any) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return (x @ torch.ones(4, 4)).float()


@pytest.mark.parametrize(("function", "message"), [
    (functools.partial(cast, dtype=torch.float16), r"computes in float16 \(to at .*programs"),
    (functools.partial(cast, dtype=torch.bfloat16), "computes in bfloat16"),
    (autocast, "remove half.. and torch.autocast from the forward pass"),
    (lambda x: x + torch.rand(4), r"draws random numbers in evaluation mode \(rand at .*programs"),
    (lambda x: x + torch.randn_like(x), "draws random numbers"),
    (lambda x: nn.functional.dropout(x, 0.5), "draws random numbers"),
    (lambda x: x[x > 0].sum() + x, r"from the values of its input \(index at .*programs"),
    (lambda x: x * x.max().item(), "from the values of its input"),
])
def test_forward_passes_that_cannot_be_exported_are_refused(net: type[Net], function: Any,
                                                            message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Program.capture(net(lambda _, x: function(x)), ROW)


def test_a_branch_on_the_batch_size_is_refused(net: type[Net]) -> None:
    other_for_one = net(lambda _, x: x * 3 if x.shape[0] == 1 else x * 2)
    with pytest.raises(ModelError, match=r"for 1 sample\(s\) it computes something else"):
        Program.capture(other_for_one, torch.ones(1, 4))
    with pytest.raises(ModelError, match=r"does not accept every batch size .2 <= batch and batch <= 4"):
        Program.capture(net(lambda _, x: x * 3 if x.shape[0] > 4 else x * 2), ROW)
    with pytest.raises(ModelError, match=r"specialized it to be a constant \(2\)\)"):
        Program.capture(net(lambda _, x: x.reshape(2, 4)), ROW)
