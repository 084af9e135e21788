"""Costs as functions of widths, against programs that are really sliced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgewright.allocation import CostModel, LatencyTable, LayerTimes
from edgewright.allocation._cost_model import PruningTarget, drop_dominated
from edgewright.channels import Polynomial, SymbolicShapes, find_groups, remove_channels
from edgewright.errors import UsageError
from edgewright.program import Program


class Dense(nn.Module):
    """Concatenations, so that a layer reads three groups at once, and one flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 5, 1)
        self.c = nn.Conv2d(11, 4, 3, padding=1)
        self.d = nn.Conv2d(15, 7, 1)
        self.e = nn.Linear(7 * 4, 9)
        self.f = nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).relu()
        ab = torch.cat([a, self.b(a).relu()], 1)
        abc = torch.cat([ab, self.c(ab).relu()], 1)
        x = nn.functional.max_pool2d(self.d(abc), 2)
        return self.f(self.e(x.flatten(1)).relu())


@pytest.fixture(scope="module")
def dense() -> Any:
    torch.manual_seed(0)
    return Program.capture(Dense(), torch.zeros(1, 2, 4, 4))


class Recurrent(nn.Module):
    """A stack in both directions, of which only the last layer's last states are read."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.cells = nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.cells(self.first(x).relu())[1][0][-1])


@pytest.fixture(scope="module")
def recurrent() -> Any:
    torch.manual_seed(0)
    return Program.capture(Recurrent(), torch.zeros(1, 7, 4))


def drawn_widths(groups: Any, seed: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    kept = [int(rng.integers(1, len(group.channels) + 1)) for group in groups.groups]
    removed = [channel for group, count in zip(groups.groups, kept, strict=True)
               for channel in rng.permutation(group.channels)[count:].tolist()]
    return np.array(kept), removed


def a_table() -> Any:
    """A latency of inputs times outputs, so that the sliced layers' can be counted."""
    sizes = (1, 64)
    rows = tuple(tuple(float(a * b) for b in sizes) for a in sizes)
    return LatencyTable("a clock", {"d.weight": LayerTimes(sizes, sizes, rows),
                                    "back.weight": LayerTimes(sizes, sizes, rows)})


def counted(program: Program, target: Any) -> Any:
    costs = program.costs()
    if target == "latency":
        state = program.state_dict()
        return float(np.prod([state[name].shape[:2] for name in ("d.weight", "back.weight")
                              if name in state]))
    return {"macs": costs.macs, "params": costs.parameters,
            "ram": costs.peak_activation_bytes}[target]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["dense", "residual"])
@pytest.mark.parametrize("target", ["macs", "params", "ram", "latency"])
def test_the_model_the_exact_count_and_the_sliced_program_agree(dense: Any, residual: Program, seed: int, name: str,
                                                                target: PruningTarget) -> None:
    program = {"dense": dense, "residual": residual}[name]
    groups = find_groups(program)
    cost = CostModel(program, groups, target, a_table())
    widths, removed = drawn_widths(groups, seed)
    want = counted(remove_channels(program, groups, removed), target)
    assert cost.without(removed) == pytest.approx(want)
    assert cost.at(widths) == pytest.approx(want)
    assert cost.full == pytest.approx(counted(program, target))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("target", ["macs", "params", "ram"])
def test_recurrent_layers_agree_too(recurrent: Any, seed: int, target: PruningTarget) -> None:
    groups = find_groups(recurrent)
    cost = CostModel(recurrent, groups, target)
    widths, removed = drawn_widths(groups, seed)
    want = counted(remove_channels(recurrent, groups, removed), target)
    assert cost.without(removed) == pytest.approx(want)
    assert cost.at(widths) == pytest.approx(want)
    assert want < cost.full == pytest.approx(counted(recurrent, target))


def test_channels_are_counted(dense: Any) -> None:
    groups = find_groups(dense)
    widths, removed = drawn_widths(groups, 3)
    cost = CostModel(dense, groups, "channels")
    total = sum(len(group.channels) for group in groups.groups)
    assert (cost.full, cost.at(widths), cost.without(removed)) == (
        total, total - len(removed), total - len(removed))


def test_sizes_of_a_concatenation_and_a_flattened_channel(dense: Any) -> None:
    groups = find_groups(dense)
    index = {group.name[0]: number for number, group in enumerate(groups.groups)}
    shape = SymbolicShapes(groups)
    found = {str(node.target).split(".")[1]: shape(node) for node in dense.calls()}
    terms = {key: value for key, value in found["cat"][1].terms.items() if value}
    assert terms == {(index["a"],): 1.0, (index["b"],): 1.0, (index["c"],): 1.0}
    assert found["flatten"][1].terms[index["d"],] == 4.0
    assert [size.constant for size in found["conv2d"][2:]] == [4.0, 4.0]


class Paired:
    """Groups whose labels 0..5 are two heads times three widths, 6 stands alone."""

    def __init__(self) -> None:
        heads, widths = (10, 11), (20, 21, 22)
        self.groups = [type("Group", (), {"channels": channels}) for channels in (heads, widths)]

    def removed_flags(self, channels: Any) -> Any:
        flags = [10 + label // 3 in channels or 20 + label % 3 in channels for label in range(6)]
        return np.array([*flags, False])

    def labels_of(self, node: Any) -> tuple[Any, ...]:
        return (None, np.array([0, 1, 2, 3, 4, 5, 6]))


def test_an_index_of_two_groups_belongs_to_their_product() -> None:
    graph = torch.fx.Graph()
    node = graph.placeholder("x")
    node.meta["val"] = torch.zeros(1, 7)
    size = SymbolicShapes(Paired())(node)[1]  # type: ignore[arg-type]
    assert size.terms == {(): 1.0, (0, 1): 1.0}
    assert size.at(np.array([1, 2])) == 3.0


def test_dominated_and_equal_polynomials_are_dropped() -> None:
    small, large = Polynomial({(0,): 1.0}), Polynomial({(0,): 2.0, (): 1.0})
    other = Polynomial({(1,): 1.0})
    again = Polynomial({(): 1.0, (0,): 2.0})
    assert set(map(id, drop_dominated([small, large, other, again]))) == {id(again), id(other)}


def test_latency_without_a_table_is_refused(dense: Any) -> None:
    with pytest.raises(UsageError, match="target='latency' needs a table of measured latencies; "
                                         "pass one from measure_layers"):
        CostModel(dense, find_groups(dense), "latency")
