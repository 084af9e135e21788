"""Properties that every criterion must have."""

from __future__ import annotations

import copy
import typing
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.programs import Mixed, statistics_of
from torch import nn

from edgewright.channels import find_groups
from edgewright.errors import ModelError, UsageError
from edgewright.program import Program
from edgewright.pruning import ChannelPruning
from edgewright.pruning.criteria import CRITERIA, score_channels
from edgewright.task import Task

NEED_DATA = {"taylor", "fisher", "obd", "gauss_newton", "activation", "apoz", "redundancy"}
every_criterion = pytest.mark.parametrize("criterion", CRITERIA)
COUPLINGS = ["mixed", "residual", "twice", "grouped"]


def test_config_lists_every_criterion() -> None:
    field = ChannelPruning.model_fields["criterion"]
    assert set(typing.get_args(field.annotation)) == set(CRITERIA)


@every_criterion
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_every_channel_has_a_finite_score(coupled: dict[str, Program], mixed_task: Task,
                                          criterion: Any, coupling: str) -> None:
    program = coupled[coupling]
    groups = find_groups(program)
    config = ChannelPruning(criterion=criterion)
    scores = score_channels(program, mixed_task, groups, config, 0)
    assert list(scores) == [channel for group in groups.groups for channel in group.channels]
    assert all(isinstance(score, float) for score in scores.values())
    assert min(scores.values()) >= 0
    assert np.isfinite(list(scores.values())).all()
    for group in groups.groups:  # scores differ, except distances between two channels
        assert len(group.channels) == 2 or len({scores[channel] for channel in group.channels}) > 1


@every_criterion
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_scoring_does_not_change_the_program(coupled: dict[str, Program], mixed_task: Task,
                                             scores_of: Callable[..., dict[str, list[float]]],
                                             criterion: Any, coupling: str) -> None:
    program = coupled[coupling]
    before = {name: value.clone() for name, value in program.state_dict().items()}
    code = program.graph_module.code
    first = scores_of(program, mixed_task, criterion=criterion)
    assert scores_of(program, mixed_task, criterion=criterion) == first
    torch.testing.assert_close(program.state_dict(), before, rtol=0, atol=0)
    assert program.graph_module.code == code
    assert all(parameter.grad is None for parameter in program.graph_module.parameters())


@every_criterion
def test_samples_depend_on_the_seed(mixed_program: Program, mixed_task: Task,
                                    scores_of: Callable[..., dict[str, list[float]]],
                                    criterion: Any) -> None:
    few = scores_of(mixed_program, mixed_task, criterion=criterion, samples=10)
    other = scores_of(mixed_program, mixed_task, criterion=criterion, samples=10, seed=1)
    assert (few != other) == (criterion in NEED_DATA | {"random"})
    more = scores_of(mixed_program, mixed_task, criterion=criterion, samples=20)
    assert (few != more) == (criterion in NEED_DATA)
    if criterion not in ("random", "gauss_newton"):  # these use random numbers
        everything = scores_of(mixed_program, mixed_task, criterion=criterion, samples=10**6)
        assert everything == scores_of(mixed_program, mixed_task, criterion=criterion, samples=80,
                                       seed=1)


@every_criterion
def test_without_a_task_it_scores_or_reports_missing_data(mixed_program: Program,
                                                          scores_of: Callable[..., dict[str, list[float]]],
                                                          criterion: Any) -> None:
    if criterion not in NEED_DATA:
        assert scores_of(mixed_program, criterion=criterion)
        return
    with pytest.raises(UsageError, match=f"^criterion='{criterion}' needs data; give a task, or "
                                         "use 'magnitude'$"):
        scores_of(mixed_program, criterion=criterion)


@every_criterion
def test_program_without_channels_has_no_scores(mixed_task: Task,
                                                scores_of: Callable[..., dict[str, list[float]]],
                                                criterion: Any) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
    assert scores_of(Program.capture(model, torch.zeros(1, 2, 4, 4)), mixed_task,
                     criterion=criterion) == {}


def modified_program(mixed: Any, change: Any) -> Any:
    model = copy.deepcopy(mixed)
    with torch.no_grad():
        change(model)
    return Program.capture(model, torch.zeros(1, 2, 4, 4))


def head_columns(channel: Any) -> Any:
    return slice(16 * channel, 16 * channel + 16)


@pytest.mark.parametrize("criterion", sorted(set(CRITERIA) - {"random"}))
def test_scores_do_not_depend_on_channel_order(mixed: Mixed, mixed_program: Program, mixed_task: Task, scores_of: Callable[..., dict[str, list[float]]],
                                               criterion: Any) -> None:
    order = [3, 0, 4, 1, 2]

    def permute(model: Mixed) -> None:
        for tensor in (model.first.weight, *model.deep.parameters(), *model.norm.parameters(),
                       *statistics_of(model.norm)):
            tensor.copy_(tensor[order])
        head = model.head.weight.reshape(6, 5, 16)[:, order]
        model.head.weight.copy_(head.reshape(6, 80))

    found = scores_of(modified_program(mixed, permute), mixed_task, criterion=criterion)
    want = scores_of(mixed_program, mixed_task, criterion=criterion)
    assert found["first.weight"] == pytest.approx([want["first.weight"][i] for i in order],
                                                  rel=1e-4)
    assert found["head.weight"] == pytest.approx(want["head.weight"], rel=1e-4)


@pytest.mark.parametrize("criterion", sorted(set(CRITERIA) - {"random", "geometric_median"}))
def test_zero_channel_scores_zero(mixed: Mixed, mixed_task: Task,
                                  scores_of: Callable[..., dict[str, list[float]]],
                                  criterion: Any) -> None:
    def zero_channel(model: Mixed) -> None:
        for tensor in (model.first.weight, *model.deep.parameters(), *model.norm.parameters()):
            tensor[2] = 0
        model.head.weight[:, head_columns(2)] = 0

    scores = scores_of(modified_program(mixed, zero_channel), mixed_task, criterion=criterion)["first.weight"]
    assert scores[2] == 0
    assert min(scores[:2] + scores[3:]) > 0


@pytest.mark.parametrize("criterion", sorted(set(CRITERIA) - {"random", "lamp", "redundancy"}))
def test_equal_channels_have_equal_scores(mixed: Mixed, mixed_task: Task,
                                          scores_of: Callable[..., dict[str, list[float]]],
                                          criterion: Any) -> None:
    def duplicate_channel(model: Mixed) -> None:
        for tensor in (model.first.weight, *model.deep.parameters(), *model.norm.parameters(),
                       *statistics_of(model.norm)):
            tensor[4] = tensor[1]
        model.head.weight[:, head_columns(4)] = model.head.weight[:, head_columns(1)]

    scores = scores_of(modified_program(mixed, duplicate_channel), mixed_task, criterion=criterion)["first.weight"]
    assert scores[4] == pytest.approx(scores[1], rel=1e-4)


@every_criterion
def test_equal_scores_of_all_channels_raise_an_error(mixed: Mixed, mixed_task: Task, scores_of: Callable[..., dict[str, list[float]]],
                                                     criterion: Any) -> None:
    """Otherwise the storage order would decide which channels are removed."""
    def fill_with_constant(model: Mixed) -> None:
        for tensor in (*model.parameters(), *statistics_of(model.norm)):
            tensor.fill_(0.1)

    program = modified_program(mixed, fill_with_constant)
    if criterion in ("random", "lamp", "redundancy", "activation"):
        found = scores_of(program, mixed_task, criterion=criterion)
        assert all(np.isfinite(scores).all() for scores in found.values())
        return
    with pytest.raises(UsageError, match=f"criterion='{criterion}' scores every channel of every "
                                         r"group the same \(.* in first.weight\) and cannot "
                                         "rank them; "):
        scores_of(program, mixed_task, criterion=criterion)


@pytest.mark.parametrize("criterion", sorted(set(CRITERIA) - {"random"}))
def test_scores_that_are_not_finite_are_rejected(mixed: Mixed, mixed_task: Task,
                                                 scores_of: Callable[..., dict[str, list[float]]],
                                                 criterion: Any) -> None:
    def insert_nan(model: Mixed) -> None:
        model.first.weight[1, 0, 0, 0] = float("nan")
        model.norm.weight[1] = float("nan")

    with pytest.raises(ModelError, match=f"criterion='{criterion}' gives a score of nan in "
                                         "first.weight; expected finite weights|the model returns "
                                         "NaN or infinity for the first training samples"):
        scores_of(modified_program(mixed, insert_nan), mixed_task, criterion=criterion)
