"""State that leaves no trace in a graph is found by asking twice."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import ModelError
from edgewright.program import Program


class Remembering(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.function = function
        self.calls, self.seen = 0, None
        self.past: list[Tensor] = []
        self.recent: deque[Tensor] = deque(maxlen=2)
        self.by_name: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def counts(m: Any, x: Any) -> Any:
    m.calls += 1
    return m.layer(x) * m.calls


def grows(m: Any, x: Any) -> Any:
    m.past.append(m.layer(x))
    return torch.stack(m.past).mean(0)


def queues(m: Any, x: Any) -> Any:
    m.recent.append(m.layer(x))
    return sum(m.recent)


def files(m: Any, x: Any) -> Any:
    m.by_name["state"] = m.layer(x) + m.by_name.get("state", 0)
    return m.by_name["state"]


def averages(m: Any, x: Any) -> Any:
    y = m.layer(x)
    now = y.mean(0).detach()
    m.seen = now if m.seen is None else 0.9 * m.seen + 0.1 * now
    return y - m.seen


def overwrites(m: Any, x: Any) -> Any:
    y = m.layer(x)
    m.layer.bias.data = y[0].detach()
    return y


@pytest.mark.parametrize(("function", "name"), [
    (counts, "calls"), (grows, "past"), (queues, "recent"), (files, "by_name"),
    (averages, "seen"), (overwrites, r"layer\.bias")])
def test_what_changes_the_next_answer_is_named(function: Any, name: str) -> None:
    with pytest.raises(ModelError, match=rf"Remembering gives outputs that depend on earlier calls, "
                                         rf"since its forward pass changes {name}; a file keeps "):
        Program.capture(Remembering(function).eval(), torch.zeros(1, 4))


def keeps_an_activation(m: Any, x: Any) -> Any:
    m.seen = m.layer(x)
    m.past.append(0)
    return m.seen


def builds_a_table_once(m: Any, x: Any) -> Any:
    if m.seen is None:
        m.seen = torch.arange(4.0)
    return m.layer(x) * m.seen


def builds_a_mask_by_batch(m: Any, x: Any) -> Any:
    if m.seen is None or m.seen.shape[0] != x.shape[0]:
        m.seen = torch.ones(x.shape[0], 1)
    return m.layer(x) * m.seen


def registers_in_forward(m: Any, x: Any) -> Any:
    if not hasattr(m, "table"):
        m.register_buffer("table", torch.arange(4.0), persistent=False)
    return m.layer(x) * m.table


@pytest.mark.parametrize("function", [keeps_an_activation, builds_a_table_once,
                                      builds_a_mask_by_batch, registers_in_forward])
def test_what_does_not_is_taken(function: Any) -> None:
    model = Remembering(function).eval()
    program = Program.capture(model, torch.zeros(1, 4))
    assert model.seen is None
    assert not hasattr(model, "table")
    for batch in (1, 5):
        x = torch.randn(batch, 4)
        before = x.clone()
        torch.testing.assert_close(program.run(x), model(x))
        assert torch.equal(x, before)


def test_random_numbers_are_refused_as_such_and_not_as_state() -> None:
    model = Remembering(lambda m, x: m.layer(x) + torch.randn(4)).eval()
    with pytest.raises(ModelError, match="draws random numbers in evaluation mode"):
        Program.capture(model, torch.zeros(1, 4))


def test_outputs_that_are_not_finite_are_no_state() -> None:
    model = Remembering(lambda m, x: m.layer(x).log()).eval()
    assert Program.capture(model, torch.zeros(1, 4)).run(torch.zeros(2, 4)).shape == (2, 4)
