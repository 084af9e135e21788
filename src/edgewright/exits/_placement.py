"""Place exits where they minimize the expected cost of a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import ModelError, UsageError
from edgewright.exits._config import EarlyExits, ExitCostModel
from edgewright.exits._goal import check_goal
from edgewright.exits._places import (
    ExitPlace,
    count_possible_exits,
    find_exit_places,
    find_named_places,
    list_similar_names,
)
from edgewright.goals import Goal
from edgewright.program import Program, has_routes

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class ExitPlan:
    """The chosen places of exits, and their expected cost.

    Attributes:
        places: The places, in order.
        mean_macs: Modelled mean multiply-accumulates per sample, including heads and overheads.
        macs: Multiply-accumulates of the program without exits.
    """

    places: tuple[ExitPlace, ...]
    mean_macs: float
    macs: int


class Chain(NamedTuple):
    """Chosen places, by their indices, and the cost expected with exits there."""

    chosen: tuple[int, ...]
    cost: float


def plan_exits(program: Program, config: EarlyExits | None = None) -> ExitPlan:
    """Place exits so that the expected multiply-accumulates per sample are minimal.

    With exits ``1..k`` at shares ``c_i`` of the network's computation, heads that cost ``h_i``, an
    overhead ``o`` each, all as shares of that computation, and ``p(c)`` the share of the samples
    that can leave by ``c``, the expected cost of a sample is ::

        E = sum_i (1 - p(c_(i-1))) (c_i - c_(i-1) + h_i + o)  +  (1 - p(c_k)) (1 - c_k)

    with ``c_0 = p(c_0) = 0``: a sample that has not left computes the next part and its head. Each
    term depends only on two consecutive exits, so dynamic programming finds the best chain of each
    length exactly; ``auto`` chooses the cheapest of all lengths, the shortest if tied.

    The share that can leave is known only after the exits are trained. Until then it is *modelled*:
    ``p(c) = c ** exit_rate_exponent``. With an exponent of 1 and heads without cost, a given number
    of exits lies at equal shares of the computation, the usual rule. Measured shares replace the
    model if given. Patience needs two exits or none.

    Args:
        program: With one output, the batch first.
        config: The number or the names of the places, and the head.

    Raises:
        ModelError: There are fewer places than exits, a named tensor cannot feed a head, or the
            program has another output.
        UsageError: A name in ``places`` or ``exit_rates`` is not a place, or the rates decrease
            along the network.

    Example:
        >>> import torch
        >>> layers = [torch.nn.Linear(64, 64), torch.nn.ReLU()] * 8
        >>> program = Program.capture(torch.nn.Sequential(*layers, torch.nn.Linear(64, 2)),
        ...                           torch.zeros(1, 64))
        >>> plan = plan_exits(program, EarlyExits(places=1))
        >>> plan.places[0].macs / plan.macs, round(plan.mean_macs / plan.macs, 2)
        (0.49..., 0.8)
    """
    config = config or EarlyExits()
    places = (find_named_places if config.names else find_exit_places)(program, config)
    count = config.count
    if count is not None and len(places) < count:
        raise ModelError(f"{count} early exits were requested, but the graph has only "
                         f"{len(places)} places where a single tensor is alive and a head fits; "
                         "request fewer exits")
    total = program.costs().macs
    depths = np.array([place.macs / total for place in places])
    heads = np.array([place.head.macs / total for place in places])
    overhead = config.cost_model.overhead
    rates = model_exit_rates(program, depths, config.cost_model)
    found = find_cheapest_chain(depths, heads + overhead, rates, count)
    if len(found.chosen) == 1 and config.calibration.policy == "patience":  # waits for two
        found = (find_cheapest_chain(depths, heads + overhead, rates, 2) if len(places) > 1
                 else Chain((), 1.0))
    return ExitPlan(tuple(places[index] for index in found.chosen), found.cost * total, total)


def limit_exits(program: Program, config: EarlyExits) -> tuple[EarlyExits | None, str]:
    """Limit a config to the number of places in a program; return it with a note of the change.

    Raises:
        ModelError: A named tensor cannot feed a head.
        UsageError: A name in ``places`` or ``exit_rates`` is not a place, or the rates decrease
            along the network.

    Example:
        >>> import torch
        >>> program = Program.capture(torch.nn.Linear(4, 2), torch.zeros(1, 4))
        >>> limit_exits(program, EarlyExits(places=2))
        (None, '0 of 2 early exits: the graph has no place for more')
    """
    places = count_possible_exits(program)
    if config.names or (config.count is None and places):
        return ((config, "") if plan_exits(program, config).places else
                (None, "early exits left out: none is expected to save more than it costs"))
    if config.count is None:
        return None, "early exits left out: the graph has no place for one"
    if places >= config.count:
        return config, ""
    note = f"{places} of {config.count} early exits: the graph has no place for more"
    return config.replace(places=places) if places else None, note


def fit_exits(program: Program, goal: Goal, config: EarlyExits) -> tuple[EarlyExits | None, str]:
    """Fit a config to a program and a goal; return it with a note of the change.

    Returns:
        The config with the number of exits that the program has places for; None if it can have
        no exit.

    Raises:
        UsageError: The policy does not fit the goal; or see `limit_exits`.
        ModelError: See `limit_exits`.

    Example:
        >>> import torch
        >>> from edgewright.goals import Regression
        >>> program = Program.capture(torch.nn.Linear(4, 1), torch.zeros(1, 4))
        >>> fit_exits(program, Regression(), EarlyExits(places=1))
        (None, 'exits left out: the goal regression cannot have them, a value does not tell how \
wrong it is')
    """
    if has_routes(program.graph):
        return None, "exits left out: the program chooses its path by the input already"
    if goal.exit_obstacle:
        return None, (f"exits left out: the goal {goal.name} cannot have them, "
                      f"{goal.exit_obstacle}")
    check_goal(goal, config.calibration.policy)
    return limit_exits(program, config)


def model_exit_rates(program: Program, depths: Vector, cost_model: ExitCostModel) -> Vector:
    """The share of the samples that can leave by each depth, modelled or measured.

    Measured shares are interpolated linearly, including (0, 0) and (1, 1).

    Raises:
        UsageError: A measured share is not at a place, or is smaller than an earlier one.
    """
    if not cost_model.exit_rates:
        return np.asarray(depths ** cost_model.exit_rate_exponent, dtype=np.float64)
    places = {place.name: place for place in find_exit_places(program)}
    for name in cost_model.exit_rates:
        if name not in places:
            raise UsageError(f"exit_rates[{name!r}] is not a place for an exit; "
                             f"{list_similar_names(name, places)}")
    total = program.costs().macs
    known = sorted((places[name].macs / total, share)
                   for name, share in cost_model.exit_rates.items())
    shares = [0.0, *(share for _, share in known), 1.0]
    if shares != sorted(shares):
        listed = ", ".join(f"{share:g}" for share in shares[1:-1])
        raise UsageError(f"exit_rates decrease along the network: {listed}; each is the cumulative "
                         "share of samples that can leave by there, so it cannot decrease")
    return np.interp(depths, [0.0, *(depth for depth, _ in known), 1.0], shares)


def find_cheapest_chain(depths: Sequence[float] | Vector, heads: Sequence[float] | Vector,
                        leaving: Sequence[float] | Vector, count: int | None = None) -> Chain:
    """The places, in order, with the lowest expected cost; see `plan_exits` for the equation.

    Args:
        depths: Share of the network's computation up to each place, non-decreasing.
        heads: Cost of an exit there for each sample that reaches it, as a share of the computation.
        leaving: Share of the samples that can leave by there, non-decreasing.
        count: Number of places; None for the cheapest number.

    Raises:
        UsageError: There are fewer places.

    Example:
        >>> find_cheapest_chain([0.25, 0.5, 0.75], [0.0] * 3, [0.25, 0.5, 0.75], 1)
        Chain(chosen=(1,), cost=0.75)
        >>> find_cheapest_chain([0.25, 0.5, 0.75], [0.3] * 3, [0.25, 0.5, 0.75])
        Chain(chosen=(), cost=1.0)
    """
    if count is not None and count > len(depths):
        raise UsageError(f"{count} places were requested, but there are only {len(depths)}")
    depth = np.concatenate([[0.0], depths])
    stay = 1 - np.concatenate([[0.0], leaving])
    head = np.concatenate([[0.0], heads])
    steps = stay[:, None] * (depth - depth[:, None] + head)
    steps[np.tril_indices(len(depth))] = np.inf
    reached = np.where(np.arange(len(depth)) == 0, 0.0, np.inf)
    ends, parents = [reached + stay * (1 - depth)], []
    for _ in range(len(depths) if count is None else count):
        costs = reached[:, None] + steps
        parents.append(costs.argmin(axis=0))
        reached = costs.min(axis=0)
        ends.append(reached + stay * (1 - depth))
    length = int(np.argmin([end.min() for end in ends])) if count is None else count
    at = int(ends[length].argmin())
    cost, chosen = float(ends[length][at]), []
    for before in reversed(parents[:length]):
        chosen.append(at - 1)
        at = int(before[at])
    return Chain(tuple(reversed(chosen)), cost)
