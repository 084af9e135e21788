"""A captured program computes what the model computes at any batch size; the model is not changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright.capture._value_reads import LIBRARY_PATHS
from edgewright.errors import ModelError
from edgewright.program import Program


class NestedOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 3)
        self.b = nn.Linear(4, 2)

    def forward(self, left: dict[str, Tensor], right: Tensor) -> Any:
        mixed = left["x"] + right
        return {"logits": self.a(mixed), "more": (self.b(mixed), [mixed.sum(1)])}


class DataDependent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:  # the line to be named
            return x
        return -x


def conv_bn() -> Any:
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4),
                         nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3))


def images(batch: Any) -> tuple[Any, ...]:
    return (torch.randn(batch, 3, 8, 8),)


def rows(batch: Any) -> tuple[Any, ...]:
    return (torch.randn(batch, 4),)


@pytest.fixture
def cases(net: type[Net], resnet: Callable[[int], nn.Module],
          randomise: Callable[..., nn.Module]) -> dict[str, Any]:
    """Name to a model in evaluation mode and a maker of inputs for a batch size."""
    tied = net(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    tied.b.weight = tied.a.weight
    twice = net(lambda m, x: m.a(m.a(x).relu()), a=nn.Linear(4, 4))
    return {
        "conv_bn": (randomise(conv_bn()), images),
        "resnet": (resnet(1), images),
        "dropout": (nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2)), rows),
        "two_inputs": (net(lambda m, x, y: m.a(x) * m.b(y), a=nn.Linear(4, 3), b=nn.Linear(2, 3)),
                       lambda batch: (torch.randn(batch, 4), torch.randn(batch, 2))),
        "nested": (NestedOutputs(),
                   lambda batch: ({"x": torch.randn(batch, 4)}, torch.randn(batch, 4))),
        "transformer": (nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
                        lambda batch: (torch.randn(batch, 5, 8),)),
        "used_twice": (twice, rows),
        "tied": (tied, rows),
        "in_place": (net(lambda m, x: m.b(F.relu_(m.a(x).add_(x))), a=nn.Linear(4, 4),
                         b=nn.Linear(4, 2)), rows),
        "written_into": (net(_write, a=nn.Linear(4, 4)), rows),
    }


def _write(model: Net, x: Any) -> Any:
    y = model.a(x)
    y[:, :2] = 0.5
    return y.relu()


NAMES = ("conv_bn resnet dropout two_inputs nested transformer used_twice tied in_place "
         "written_into").split()


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_matches_the_model_at_any_batch_size(name: Any, cases: Any) -> None:
    model, inputs = cases[name]
    program = Program.capture(model, inputs(3))
    for batch in (1, 2, 7):
        values = inputs(batch)
        with torch.no_grad():
            expected = model.eval()(*values)
        torch.testing.assert_close(program.run(*values), expected)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "dropout"])
def test_training_matches_the_model(name: Any, cases: Any) -> None:
    model, inputs = cases[name]
    model = copy.deepcopy(model)
    module = Program.capture(model, inputs(2)).module(train=True)
    model.train()
    for _ in range(2):  # the second step normalises with what the first has updated
        values = inputs(5)
        expected, actual = model(*values), module(*values)
        torch.testing.assert_close(actual, expected)
        for output in (expected, actual):
            sum(leaf.square().sum() for leaf in pytree.tree_leaves(output)).backward()
    gradients = {n: p.grad for n, p in model.named_parameters(remove_duplicate=False)}
    for parameter_name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[parameter_name])
    buffers = dict(model.named_buffers())
    for buffer_name, buffer in module.named_buffers():
        if buffer_name in buffers:
            torch.testing.assert_close(buffer, buffers[buffer_name])


def test_a_users_detach_stops_the_gradient_in_training(net: type[Net]) -> None:
    model = net(lambda m, x: m.a(x) + m.b(x).detach(), a=nn.Linear(4, 2), b=nn.Linear(4, 2))
    module = Program.capture(model, rows(2)).module(train=True)
    module(*rows(3)).sum().backward()
    gradients = {name: p.grad for name, p in module.named_parameters()}
    assert gradients["a.weight"] is not None
    assert gradients["b.weight"] is None


def test_state_dict_names_are_those_of_the_model_without_counters(randomise: Callable[..., nn.Module]) -> None:
    model = randomise(conv_bn())
    program = Program.capture(model, images(1))
    expected = {name for name in model.state_dict() if "num_batches_tracked" not in name}
    assert set(program.state_dict()) == expected


def test_tied_weights_are_stored_and_counted_once(cases: Any) -> None:
    program = Program.capture(cases["tied"][0], rows(1))
    assert sorted(program.state_dict()) == ["a.bias", "b.bias", "b.weight"]
    assert program.costs().parameters == 16 + 4 + 4


def test_the_model_is_not_changed(randomise: Callable[..., nn.Module]) -> None:
    model = randomise(conv_bn()).train()
    before = copy.deepcopy(model.state_dict())
    Program.capture(model, images(4)).module(train=True)(*images(4))
    assert model.training
    assert all(child.training for child in model.modules())
    torch.testing.assert_close(model.state_dict(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_attention_fast_path_setting_is_restored() -> None:
    enabled = torch.backends.mha.get_fastpath_enabled()
    Program.capture(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.zeros(1, 5, 8))
    with pytest.raises(ModelError):
        Program.capture(DataDependent(), torch.zeros(1, 2))
    assert torch.backends.mha.get_fastpath_enabled() is enabled


def test_example_inputs_are_reduced_to_two_samples() -> None:
    program = Program.capture(nn.Linear(4, 2), torch.arange(20.0).reshape(5, 4))
    assert torch.equal(program.example_inputs[0], torch.tensor([[0., 1, 2, 3], [16, 17, 18, 19]]))


class Selecting(nn.Module):
    """Keeps the rows with a positive sum, as a detector keeps boxes."""

    def forward(self, x: Tensor) -> Tensor:
        found = x[x.sum(1) > 0]
        if len(found) == 0:  # torch cannot guard on this size
            return x
        return x + found.mean()


def test_a_size_that_depends_on_values_is_refused_with_a_way_out() -> None:
    with pytest.raises(ModelError, match=r"Selecting cannot be captured at .*test_capture.py:\d+ "
                                         r"\(if len\(found\) == 0:.*\): the size of a tensor depends "
                                         r"on the values of the input, .* goal='detection'") as caught:
        Program.capture(Selecting(), torch.randn(2, 4))
    assert "u0" not in str(caught.value)


def test_packages_whose_names_begin_like_torch_are_not_taken_for_it() -> None:
    beside = str(Path(torch.__file__).parents[1] / "torchvision" / "ssd.py")
    assert torch.__file__.startswith(LIBRARY_PATHS)
    assert not beside.startswith(LIBRARY_PATHS)


def test_a_failure_names_the_line_in_the_users_code() -> None:
    with pytest.raises(ModelError) as caught:
        Program.capture(DataDependent(), torch.zeros(1, 2))
    message = str(caught.value)
    assert message.startswith("DataDependent cannot be captured at ")
    assert f"{__file__}:" in message
    assert "(if x.sum() > 0:" in message
    assert "branches on a value that depends on the input" in message


def test_a_fixed_batch_size_is_refused(net: type[Net]) -> None:
    model = net(lambda m, x: x.reshape(2, 4) * 2)
    with pytest.raises(ModelError, match="Net cannot be captured"):
        Program.capture(model, torch.zeros(1, 4))


@pytest.mark.parametrize(("inputs", "message"), [
    ((), "must be tensors with a batch dimension, got nothing"),
    ((3,), "must be tensors with a batch dimension, got int"),
    ((torch.zeros(2, 4), "x"), "got Tensor, str"),
    (torch.tensor(1.0), "must be tensors with a batch dimension, got a scalar Tensor"),
    ((torch.zeros(2, 4), torch.zeros(3, 4)), r"disagree on the batch size: \(2, 4\), \(3, 4\)"),
    (torch.zeros(0, 4), "have no sample"),
    ((torch.zeros(2, 4), torch.zeros(2, 4)), "Linear cannot be captured.*positional argument"),
    (torch.zeros(2, 5), "Linear cannot be captured"),
])
def test_invalid_example_inputs_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Program.capture(nn.Linear(4, 2), inputs)


def test_a_tensor_name_that_is_a_python_keyword_is_refused() -> None:
    model = nn.ModuleDict({"class": nn.Linear(2, 2)})
    with pytest.raises(ModelError, match=r"class.weight cannot be captured: 'class' is a Python keyword, .*; "
                                         "rename it"):
        Program.capture(model, torch.zeros(1, 2))


def test_a_transformer_with_a_causal_mask_made_in_forward_is_captured() -> None:
    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x, mask=nn.Transformer.generate_square_subsequent_mask(5))

    torch.manual_seed(0)
    model, x = Causal().eval(), torch.randn(3, 5, 8)
    program = Program.capture(model, x[:1])
    torch.testing.assert_close(program.run(x), model(x))
    later = torch.cat([x[:, :4], x[:, 4:] + 1], 1)  # the last position is seen by itself alone
    torch.testing.assert_close(program.run(later)[:, :4], program.run(x)[:, :4])
