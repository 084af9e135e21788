"""Inputs by keyword become named inputs of a program; outputs of any class become plain dicts."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright.errors import DataError, ModelError
from edgewright.exporters import export
from edgewright.program import Program, output_names

IDS = torch.arange(10).reshape(2, 5)
MASK = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])


class ModelOutput(OrderedDict[str, Any]):
    """As Hugging Face has it: a mapping whose entries are also attributes."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


@dataclasses.dataclass
class Registered:
    logits: Tensor
    last: Tensor
    hidden: Tensor | None = None


pytree.register_dataclass(Registered)


class Fields(NamedTuple):
    logits: Tensor
    last: Tensor


class Encoder(nn.Module):
    """Called with keywords, as models of Hugging Face are."""

    def __init__(self, output: Any = ModelOutput) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.head = nn.Linear(8, 3)
        self.output = output

    def forward(self, input_ids: Any = None, attention_mask: Any = None,
                token_type_ids: Any = None, use_cache: Any = True, **more: Any) -> Any:
        states = self.embedding(input_ids)
        if token_type_ids is not None:
            states = states + token_type_ids[..., None]
        if use_cache:
            raise ValueError("there is no cache")
        mask = attention_mask[..., None].float()
        pooled = (states * mask).sum(1) / mask.sum(1) + more.get("bias", 0)
        return self.output(logits=self.head(pooled), last=states)


@pytest.fixture
def captured() -> Any:
    model = Encoder()
    return model, Program.capture(model, IDS, {"attention_mask": MASK, "use_cache": False})


def test_keyword_inputs_are_named_inputs_after_the_positional_ones(captured: Any) -> None:
    model, program = captured
    expected = model(IDS, MASK, use_cache=False)["logits"]
    assert program.input_names == ("input_ids", "attention_mask")
    for found in (program.run(IDS, MASK), program.run(IDS, attention_mask=MASK),
                  program.module()(input_ids=IDS, attention_mask=MASK)):
        assert torch.allclose(found["logits"], expected)


def test_keyword_inputs_keep_the_order_in_which_they_are_given() -> None:
    given = {"attention_mask": MASK, "bias": torch.zeros(2, 1), "input_ids": IDS}
    program = Program.capture(Encoder(), kwargs={**given, "use_cache": None})
    assert program.input_names == tuple(given)
    assert program.run(*given.values())["logits"].shape == (2, 3)


def test_constants_are_fixed_in_the_program() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
            return super().forward(x) * scale

    model, x = Scaled(4, 2), torch.randn(2, 4)
    program = Program.capture(model, x, {"scale": 3.0})
    assert program.input_names == ("x",)
    assert torch.allclose(program.run(x), model(x, scale=3.0))


def test_a_model_with_any_number_of_inputs_takes_more_by_name() -> None:
    class Sum(nn.Module):
        def forward(self, first: Tensor, *others: Tensor, **named: Tensor) -> Tensor:
            return sum(others, first) + named["last"]

    x = torch.ones(2, 3)
    program = Program.capture(Sum(), (x, x, x), {"last": x})
    assert program.input_names == ("first", "others_0", "others_1", "last")
    assert program.run(x, x, x, x)[0, 0] == 4


def test_nested_keyword_inputs() -> None:
    class Nested(nn.Module):
        def forward(self, x: Tensor, state: Any = None) -> Tensor:
            return x + state["a"] * state["b"]

    x = torch.ones(2, 3)
    program = Program.capture(Nested(), x, {"state": {"a": x, "b": 2 * x}})
    assert program.input_names == ("x", "state_a", "state_b")
    assert program.run(x, state={"a": x, "b": 3 * x})[0, 0] == 4


@pytest.mark.parametrize("output", [ModelOutput, Registered, Fields, dict])
def test_outputs_of_any_class_come_out_as_a_dict(output: Any, tmp_path: Path) -> None:
    program = Program.capture(Encoder(output),
                              kwargs={"input_ids": IDS, "attention_mask": MASK, "use_cache": False})
    program.save(tmp_path / "encoder.pt2")
    for found in (program, Program.load(tmp_path / "encoder.pt2")):
        outputs = found.run(IDS, MASK)
        assert type(outputs) is dict
        assert set(outputs) == {"logits", "last"}
        assert set(output_names(found)) == set(outputs)


def test_named_inputs_survive_saving_training_and_export(captured: Any, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model, program = captured
    program.save(tmp_path / "encoder.pt2")
    loaded = Program.load(tmp_path / "encoder.pt2")
    assert loaded.input_names == program.input_names
    assert loaded.state_dict().keys() == model.state_dict().keys()
    export(loaded, "onnx", tmp_path / "encoder.onnx")
    graph = onnx.load(tmp_path / "encoder.onnx").graph
    assert tuple(value.name for value in graph.input) == program.input_names
    outputs = program.module(train=True)(IDS, MASK)
    outputs["logits"].sum().backward()


def test_the_model_is_not_changed(captured: Any) -> None:
    model, _ = captured
    assert "forward" not in vars(model)
    assert isinstance(model(IDS, MASK, use_cache=False), ModelOutput)


def test_a_forward_that_was_replaced_on_the_instance_is_the_one_captured() -> None:
    model = nn.Linear(4, 2)
    vars(model)["forward"] = lambda x: x + 1
    assert Program.capture(model, torch.zeros(1, 4)).run(torch.zeros(1, 4))[0, 0] == 1


@pytest.mark.parametrize(("args", "kwargs", "message"), [
    (IDS, {"input_ids": IDS}, "multiple values for argument 'input_ids'"),
    ((), {}, "got nothing"),
    (IDS, {"attention_mask": MASK[:1]}, "disagree on the batch size"),
    (IDS, {"attention_mask": MASK.double()}, "example input 1 is float64"),
    (IDS, {"attention_mask": object()}, "must be tensors with a batch dimension, got"),
])
def test_calls_that_do_not_fit_are_refused(args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Program.capture(Encoder(), args, kwargs)


class Cache:
    """An object with tensors that no graph can return."""

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys


def test_an_output_of_an_untraceable_class_is_refused_by_its_name() -> None:
    class Cached(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            found = super().forward(x)
            return {"logits": found, "past_key_values": [Cache(found)]}

    with pytest.raises(ModelError, match=r"the output 'past_key_values.0' of the model is a Cache, "
                                         r"which a graph cannot return.*use_cache=False"):
        Program.capture(Cached(3, 2), torch.randn(2, 3))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ModelError, match=r"1 positional inputs and mask were given: .*'mask'"):
        Program.capture(nn.ReLU(), IDS.float(), {"mask": MASK})


def test_a_call_with_a_missing_input_names_the_inputs(captured: Any) -> None:
    with pytest.raises(DataError, match=r"2 inputs \(input_ids, attention_mask\), got 1"):
        captured[1].run(IDS)
