"""Exits lie where a sample is expected to cost least, and only where a head can hang."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgewright.errors import ModelError, UsageError
from edgewright.exits import (
    EarlyExits,
    ExitCalibration,
    ExitCostModel,
    count_possible_exits,
    find_exit_places,
    limit_exits,
    plan_exits,
)
from edgewright.exits._placement import find_cheapest_chain
from edgewright.program import Program, find_cuts

PATIENCE = ExitCalibration(policy="patience")
FEW = settings(max_examples=60, deadline=None, derandomize=True)


def expected_cost(depths: Any, heads: Any, leaving: Any, chosen: Any) -> Any:
    """Of the samples that leave at each exit, one exit after the other."""
    cost, work, gone = 0.0, 0.0, 0.0
    spent = 0.0
    for index in chosen:
        spent += depths[index] - work + heads[index]
        cost += (leaving[index] - gone) * spent
        work, gone = depths[index], leaving[index]
    return cost + (1 - gone) * (spent + 1 - work)


Chain = tuple[list[float], list[float], list[float]]


@st.composite
def chains(draw: Any) -> Chain:
    count = draw(st.integers(0, 6))
    shares = st.lists(st.floats(0.01, 0.99), min_size=count, max_size=count)
    heads = draw(st.lists(st.floats(0, 0.3), min_size=count, max_size=count))
    return sorted(draw(shares)), heads, sorted(draw(shares))


@FEW
@given(chains())
def test_no_subset_of_the_places_is_cheaper(chain: Chain) -> None:
    subsets = [chosen for length in range(len(chain[0]) + 1)
               for chosen in itertools.combinations(range(len(chain[0])), length)]
    costs = {chosen: expected_cost(*chain, chosen) for chosen in subsets}
    found = find_cheapest_chain(*chain)
    assert found.cost == pytest.approx(min(costs.values()))
    assert found.cost == pytest.approx(costs[found.chosen])
    for count in range(len(chain[0]) + 1):
        found = find_cheapest_chain(*chain, count)
        assert len(found.chosen) == count
        assert found.cost == pytest.approx(costs[found.chosen])
        assert found.cost == pytest.approx(min(
            cost for chosen, cost in costs.items() if len(chosen) == count))


def test_requesting_more_places_than_exist_raises() -> None:
    with pytest.raises(UsageError, match=r"^3 places were requested, but there are only 2$"):
        find_cheapest_chain([0.2, 0.6], [0.0, 0.0], [0.2, 0.6], 3)


class Block(nn.Module):
    def __init__(self, before: Any, after: Any, stride: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, stride, 1)
        self.norm = nn.BatchNorm2d(after)
        self.next = nn.Conv2d(after, after, 3, 1, 1)
        self.short = (nn.Identity() if (before, stride) == (after, 1)
                      else nn.Conv2d(before, after, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.short(x) + self.next(torch.relu(self.norm(self.conv(x)))))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        self.blocks = nn.Sequential(*(Block(8, 8, 1) for _ in range(3)), Block(8, 16, 2))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(torch.relu(self.stem(x))).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width: Any) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(),
                                 nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.first(x)).chunk(3, -1)
        x = x + self.out(nn.functional.scaled_dot_product_attention(query, key, value))
        return x + self.mlp(self.second(x))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.blocks = nn.Sequential(*(Attention(16) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(x))).mean(1))


def sound() -> Any:
    layers = [layer for width in (8, 16, 16, 16) for layer in (
        nn.Conv1d(width, 16, 5, padding=2), nn.BatchNorm1d(16), nn.ReLU())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 4))


NETS = {"residual": (Residual, (3, 16, 16), "convolutional", {"relu"}),
        "tokens": (Tokens, (10, 6), "token", {"add", "linear"}),
        "sound": (sound, (8, 40), "temporal", {"relu"})}


@pytest.fixture(scope="module", params=NETS)
def net(request: pytest.FixtureRequest) -> tuple[Any, ...]:
    make, shape, head, calls = NETS[request.param]
    torch.manual_seed(0)
    return Program.capture(make().eval(), torch.zeros(2, *shape)), head, calls


def test_places_are_layer_inputs_with_suitable_heads(net: Any) -> None:
    program, head, calls = net
    places = find_exit_places(program)
    assert count_possible_exits(program) == len(places) >= 3
    assert {place.name.rstrip("_0123456789") for place in places} <= calls | {"flatten", "mean"}
    plan = plan_exits(program, EarlyExits(head=head))
    assert {place.head.kind for place in plan.places} == {head}
    macs = [place.macs for place in plan.places]
    assert macs == sorted(set(macs))
    assert 0 < macs[0] <= macs[-1] < plan.macs == program.costs().macs
    assert plan.mean_macs < plan.macs


def test_a_plan_is_the_cheapest_of_all_plans(net: Any) -> None:
    program, _, _ = net
    config = EarlyExits(cost_model=ExitCostModel(overhead=0.03, exit_rate_exponent=1.5))
    plan, places = plan_exits(program, config), find_exit_places(program, config)
    depths = [place.macs / plan.macs for place in places]
    heads = [place.head.macs / plan.macs + 0.03 for place in places]
    best = min(expected_cost(depths, heads, [depth ** 1.5 for depth in depths], chosen)
               for length in range(4) for chosen in itertools.combinations(
                   range(len(places)), length))
    assert plan.mean_macs / plan.macs <= best + 1e-9


@pytest.fixture(scope="module")
def residual() -> Any:
    return Program.capture(Residual().eval(), torch.zeros(2, 3, 16, 16))


def test_expensive_exits_are_fewer(residual: Any) -> None:
    counts = [len(plan_exits(residual, EarlyExits(cost_model=ExitCostModel(overhead=overhead))).places)
              for overhead in (0.0, 0.05, 0.1, 1.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2] > counts[3] == 0


def test_patience_gets_two_exits_or_none(residual: Any) -> None:
    one = plan_exits(residual, EarlyExits(cost_model=ExitCostModel(overhead=0.2)))
    two = plan_exits(residual, EarlyExits(
        cost_model=ExitCostModel(overhead=0.2), calibration=PATIENCE))
    assert (len(one.places), len(two.places)) == (1, 2)
    assert two.mean_macs >= one.mean_macs
    assert plan_exits(residual, EarlyExits(
        cost_model=ExitCostModel(overhead=1.0), calibration=PATIENCE)).places == ()


def test_measured_shares_move_the_exit(residual: Any) -> None:
    early, *_, before, late, _ = find_exit_places(residual)
    for place in (early, late):
        shares = {early.name: 0.9} if place is early else {before.name: 0.0, late.name: 0.9}
        plan = plan_exits(residual, EarlyExits(
            places=1, cost_model=ExitCostModel(exit_rates=shares)))
        assert plan.places[0].name == place.name
        left = place.macs + place.head.macs + 0.05 * plan.macs
        assert plan.mean_macs == pytest.approx(left + 0.1 * (plan.macs - place.macs))


def test_invalid_measured_shares_raise(residual: Any) -> None:
    early, later, *_ = find_exit_places(residual)
    with pytest.raises(UsageError, match=r"^exit_rates\['rellu'\] is not a place for an exit; similar "
                       "places: relu"):
        plan_exits(residual, EarlyExits(cost_model=ExitCostModel(
            exit_rates={"rellu": 0.5})))
    with pytest.raises(UsageError, match=r"^exit_rates decrease along the network: 0.5, 0.4; each is "):
        plan_exits(residual, EarlyExits(cost_model=ExitCostModel(
            exit_rates={later.name: 0.4, early.name: 0.5})))


def test_places_may_be_named(residual: Any) -> None:
    first, second, *_ = find_exit_places(residual)
    plan = plan_exits(residual, EarlyExits(places=(second.name, first.name)))
    assert plan.places == (first, second)


@pytest.mark.parametrize(("name", "error", "message"), [
    ("rellu_2", UsageError, "places: 'rellu_2' is not a cut of the graph, where a single tensor is alive; similar "
     "places: relu"),
    ("xyz", UsageError, "places: 'xyz' is not a cut of the graph, where a single tensor is alive; places: "),
    ("conv2d", ModelError, "the tensor conv2d cannot feed an exit: no layer reads it directly, "
     "only relu; "),
])
def test_unknown_place_names_raise(residual: Any, name: str, error: Any, message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        plan_exits(residual, EarlyExits(places=(name,)))


class Odd(nn.Module):
    """Integers, a batch that is no longer first, and a write into a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.one = nn.Embedding(5, 4), nn.Linear(4, 4)
        self.two, self.head = nn.Linear(4, 4), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(self.table(x + 1)).relu()
        merged = x.flatten(0, 1)
        x = self.two(merged).unflatten(0, (-1, 3)).tanh()
        x = x.add_(self.one(x))
        return self.head(x.flatten(1))


@pytest.mark.parametrize(("call", "reason"), [
    ("add", "it holds int64, not floating point"),
    ("flatten", "the first dimension of its shape (3, 4) for one sample is not the batch"),
    ("tanh", "add_ writes into it later"),
])
def test_tensors_that_cannot_feed_a_head_raise_with_the_reason(call: str, reason: str) -> None:
    program = Program.capture(Odd().eval(), torch.zeros(2, 3, dtype=torch.int64))
    assert call in {cut.name for cut in find_cuts(program)}
    message = f"the tensor {call} cannot feed an exit: {reason}; "
    with pytest.raises(ModelError, match=f"^{re.escape(message)}"):
        plan_exits(program, EarlyExits(places=(call,)))


def test_an_incompatible_head_raises_by_name(residual: Any) -> None:
    name = find_exit_places(residual)[0].name
    message = (f"the tensor {name} cannot feed an exit: a temporal head reads (N, channels, time), "
               "its shape is (N, 8, 16, 16)")
    with pytest.raises(ModelError, match=f"^{re.escape(message)}"):
        plan_exits(residual, EarlyExits(places=(name,), head="temporal"))
    with pytest.raises(ModelError, match=r"^2 early exits were requested, but the graph has only 0 "):
        plan_exits(residual, EarlyExits(places=2, head="token"))


@pytest.mark.parametrize(("config", "count", "note"), [
    ({"places": 2}, 2, ""), ({}, "auto", ""),
    ({"places": 99}, 5, "5 of 99 early exits: the graph has no place for more"),
    ({"cost_model": ExitCostModel(overhead=1)}, None,
     "early exits left out: none is expected to save more than it costs"),
])
def test_a_config_is_limited_to_the_places(residual: Any, config: dict[str, Any],
                                           count: int | str | None, note: str) -> None:
    fitted, found = limit_exits(residual, EarlyExits(**config))
    assert (fitted and fitted.places, found) == (count, note)


def test_a_network_without_a_place_gets_no_exits() -> None:
    program = Program.capture(nn.Linear(4, 3), torch.zeros(2, 4))
    assert limit_exits(program, EarlyExits()) == (
        None, "early exits left out: the graph has no place for one")
    assert plan_exits(program).places == ()
