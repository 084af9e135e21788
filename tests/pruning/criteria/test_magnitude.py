"""Norms of weights, against loops over the model's tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from tests.programs import Mixed

from edgewright.program import Program

NORMS = {
    "magnitude": lambda slices: sum(w * w for part in slices for w in part),
    "l1": lambda slices: sum(abs(w) for part in slices for w in part),
    "l2": lambda slices: sum(math.sqrt(sum(w * w for w in part)) for part in slices),
}


@pytest.mark.parametrize("criterion", NORMS)
def test_score_is_a_norm_over_all_slices_of_a_channel(mixed: Mixed, mixed_program: Program, scores_of: Callable[..., dict[str, list[float]]], channel_slices: dict[str, Callable[[int], list[tuple[str, Any]]]],
                                                      criterion: Any) -> None:
    found = scores_of(mixed_program, criterion=criterion)
    state = mixed.state_dict()
    assert found.keys() == channel_slices.keys()
    for name, where in channel_slices.items():
        want = [NORMS[criterion]([state[tensor][index].flatten().tolist()
                                  for tensor, index in where(channel)])
                for channel in range(len(found[name]))]
        assert found[name] == pytest.approx(want, rel=1e-6)


def test_layer_called_twice_counts_once(coupled: dict[str, Program],
                                        scores_of: Callable[..., dict[str, list[float]]]) -> None:
    state = coupled["twice"].state_dict()
    found = scores_of(coupled["twice"], criterion="l1")["first.weight"]
    for channel, score in enumerate(found):
        parts = [state["first.weight"][channel], state["first.bias"][channel],
                 state["shared.weight"][channel], state["shared.bias"][channel],
                 state["shared.weight"][:, channel],  # read and written: its diagonal twice
                 state["last.weight"][:, channel], state["last.weight"][:, 5 + channel]]
        assert score == pytest.approx(sum(float(part.abs().sum()) for part in parts), rel=1e-6)
