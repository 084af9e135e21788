"""A task's samples reach the inputs of a program that was captured with keywords."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.errors import DataError
from edgewright.pipeline._capture_model import capture_model


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 16)
        self.hidden = nn.Linear(16, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, input_ids: Any = None, attention_mask: Any = None,
                token_type_ids: Any = None) -> Any:
        states = self.embedding(input_ids)
        if token_type_ids is not None:
            states = states + token_type_ids[..., None]
        mask = attention_mask[..., None].float()
        return {"logits": self.head(self.hidden((states * mask).sum(1) / mask.sum(1)).relu())}


def records(count: int) -> list[dict[str, Any]]:
    drawn = torch.Generator().manual_seed(count)
    return [{"attention_mask": [1, 1, 1, 1, i % 2], "label": i % 3,
             "input_ids": torch.randint(0, 10, (5,), generator=drawn)} for i in range(count)]


def make_task(*inputs: str) -> Any:
    return ew.Task(records(40), records(20), records(30), inputs=inputs)


def test_a_model_is_captured_with_the_names_of_the_tasks_inputs() -> None:
    program = capture_model(Encoder(), make_task("attention_mask", "input_ids"))
    assert program.input_names == ("attention_mask", "input_ids")


def test_inputs_whose_names_the_model_does_not_know_are_positional() -> None:
    class Other(nn.Module):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            return (ids * mask).float()

    program = capture_model(Other(), make_task("input_ids", "attention_mask"))
    assert program.input_names == ("ids", "mask")


def test_inputs_in_another_order_than_the_programs_are_refused() -> None:
    program = capture_model(Encoder(), make_task("input_ids", "attention_mask"))
    with pytest.raises(DataError, match=r"inputs are attention_mask, input_ids, but the program "
                                        r"takes input_ids, attention_mask; give them in that"):
        ew.fit(program, make_task("attention_mask", "input_ids"), ew.Training(epochs=1))


def test_a_model_called_with_keywords_is_compressed(tmp_path: Path) -> None:
    result = ew.compress(Encoder(), make_task("input_ids", "attention_mask"), recipe="fast",
                         out=tmp_path / "run", quiet=True)
    model = result.manifest.model
    assert [spec.name for spec in model.inputs] == ["input_ids", "attention_mask"]
    assert model.structure in ("logits", {"logits": "logits"})
