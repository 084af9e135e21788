"""Scores of channels, against loops over the model's own tensors."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.pruning import ChannelPruning
from edgewright.pruning._criteria import score_channels

# Where channel ``c`` of each group lies: tensor name, and what to index it with.
PLACES = {
    "first.weight": lambda c: [
        ("first.weight", (c,)), ("norm.weight", (c,)), ("norm.bias", (c,)),
        ("deep.weight", (c,)), ("deep.bias", (c,)),
        ("head.weight", (slice(None), slice(16 * c, 16 * c + 16)))],
    "head.weight": lambda c: [
        ("head.weight", (c,)), ("head.bias", (c,)), ("last.weight", (slice(None), c))],
}


def scores_of(program, task=None, seed=0, **options):
    """Scores by group name, in the order of the channels' indices."""
    groups = program.groups()
    scores = score_channels(program, task, groups, ChannelPruning(**options), seed)
    found = {}
    for group in groups.groups:
        place = (group.name, 0)
        ordered = sorted(group.channels, key=lambda c: int(groups.slices(c)[place][0]))
        found[group.name] = [scores[channel] for channel in ordered]
    return found


def test_magnitude_is_the_squared_norm_of_all_a_channel_is_sliced_from(mixed, mixed_program):
    found = scores_of(mixed_program, criterion="magnitude")
    state = mixed.state_dict()
    assert found.keys() == PLACES.keys()
    for name, places in PLACES.items():
        for channel, score in enumerate(found[name]):
            want = 0.0
            for tensor, index in places(channel):
                for value in state[tensor][index].flatten().tolist():
                    want += value * value
            assert score == pytest.approx(want, rel=1e-6)


def loss_of(model, x, y):
    return float(F.cross_entropy(model(x), y))


def slope(model, batch, tensor, index):
    """How the loss changes as the slice shrinks, by a central difference."""
    target = model.get_parameter(tensor)
    original = target.detach().clone()
    losses = []
    for factor in (1 + 1e-5, 1 - 1e-5):
        with torch.no_grad():
            target.copy_(original)
            target[index] *= factor
            losses.append(loss_of(model, *batch))
            target.copy_(original)
    return (losses[0] - losses[1]) / 2e-5


def test_taylor_is_what_shrinking_a_channel_does_to_the_loss(mixed, mixed_program, mixed_task):
    found = scores_of(mixed_program, mixed_task, criterion="taylor")
    model = copy.deepcopy(mixed).double()
    batches = [(batch.inputs[0].double(), batch.targets) for batch in mixed_task.train.batches(64)]
    assert [len(targets) for _, targets in batches] == [64, 16]
    for name, places in PLACES.items():
        for channel, score in enumerate(found[name]):
            want = sum(slope(model, batch, *place) ** 2
                       for batch in batches for place in places(channel))
            assert score == pytest.approx(want, rel=1e-3)


def test_taylor_averages_the_losses_of_all_outputs(mixed, mixed_task):
    class Twice(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            logits = self.model(x)
            return logits, logits

    twice = Program.capture(Twice(mixed), torch.zeros(1, 2, 4, 4))
    once = Program.capture(mixed, torch.zeros(1, 2, 4, 4))
    found, want = (scores_of(program, mixed_task, criterion="taylor") for program in (twice, once))
    for name, scores in want.items():
        assert found[f"model.{name}"] == pytest.approx(scores, rel=1e-5)


def test_taylor_looks_at_as_many_samples_as_asked(mixed_program, mixed_task):
    few = scores_of(mixed_program, mixed_task, samples=10)
    assert few == scores_of(mixed_program, mixed_task, samples=10)
    assert few != scores_of(mixed_program, mixed_task, samples=10, seed=1)
    assert few != scores_of(mixed_program, mixed_task, samples=20)
    assert scores_of(mixed_program, mixed_task, samples=10**6) == scores_of(
        mixed_program, mixed_task, samples=80, seed=1)


def test_taylor_leaves_no_gradient_behind(mixed_program, mixed_task):
    before = {name: value.clone() for name, value in mixed_program.state_dict().items()}
    scores_of(mixed_program, mixed_task, criterion="taylor")
    assert all(p.grad is None for p in mixed_program.graph_module.parameters())
    torch.testing.assert_close(mixed_program.state_dict(), before, rtol=0, atol=0)


def test_taylor_without_data_is_refused(mixed_program):
    with pytest.raises(UsageError, match="criterion='taylor' needs data; give a task, or use "
                                         "'magnitude'"):
        scores_of(mixed_program, criterion="taylor")


def test_random_is_the_seeds(mixed_program):
    drawn = scores_of(mixed_program, criterion="random", seed=3)
    assert drawn == scores_of(mixed_program, criterion="random", seed=3)
    assert drawn != scores_of(mixed_program, criterion="random", seed=4)
    values = [value for scores in drawn.values() for value in scores]
    assert len(set(values)) == len(values) == 11
    assert all(0 <= value < 1 for value in values)
