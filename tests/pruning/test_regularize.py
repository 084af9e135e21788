"""Penalties against slow references, and removal of channels that they drive to zero."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.programs import measure_accuracies
from torch import nn

from edgewright.channels import find_groups
from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.pruning import (
    ChannelPruning,
    StructureRegularization,
    prune,
    regularize,
    remove_vanished,
)
from edgewright.pruning._coupled_slices import CoupledSlices
from edgewright.pruning._penalties import GroupLasso, GrowingDecay
from edgewright.quantization import quantize
from edgewright.task import Task
from edgewright.training import Step, Training

CHANNELS = ChannelPruning(criterion="magnitude", ratio=0.4, round_to=2)
LONG = Training(epochs=12, batch_size=16, lr=0.05, augment=False, compute="cpu")


@pytest.fixture(scope="module")
def net(trained_program: Program) -> Any:
    return trained_program


def slices_of(groups: Any, module: nn.Module, channel: Any) -> Any:
    """Every (weight, dimension, index) of a channel, running statistics left out."""
    parameters = dict(module.named_parameters())
    return [(parameters[name], dim, int(index)) for (name, dim), indices in
            groups.slices(channel).items() if name in parameters for index in indices]


def squared_norm(groups: Any, module: nn.Module, channel: Any) -> Any:
    return sum(float(w.detach().select(dim, i).double().square().sum())
               for w, dim, i in slices_of(groups, module, channel))


def test_norms_and_sizes_cover_every_slice(mixed_program: Program) -> None:
    groups, module = find_groups(mixed_program), mixed_program.module()
    found = CoupledSlices(groups, module)
    assert len(found.channels) == 5 + 6
    for channel, norm, size in zip(found.channels, found.norms(), found.sizes, strict=True):
        assert float(norm) == pytest.approx(math.sqrt(squared_norm(groups, module, channel)), rel=1e-5)
        assert int(size) == sum(w.select(dim, i).numel()
                                for w, dim, i in slices_of(groups, module, channel))
    assert found.group_indices.tolist() == [i for i, g in enumerate(groups.groups) for _ in g.channels]


def test_tied_weights_are_counted_once() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3))
    model[2].weight = model[1].weight
    program = Program.capture(model, torch.zeros(1, 4))
    groups, module = find_groups(program), program.module()
    found = CoupledSlices(groups, module)
    unique = {id(p) for p in module.parameters()}
    assert len({(id(sliced.weight), sliced.dim) for sliced in found._sliced_dims}) == len(found._sliced_dims)
    assert {id(sliced.weight) for sliced in found._sliced_dims} <= unique


def test_group_lasso_takes_a_proximal_step(mixed_program: Program) -> None:
    groups, module = find_groups(mixed_program), mixed_program.module()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    hook = GroupLasso(groups, strength=0.2)
    hook.start(module)
    found = CoupledSlices(groups, module)
    factors = {c: max(0.0, 1 - 0.5 * 0.2 * math.sqrt(float(size)) / float(norm))
               for c, size, norm in zip(found.channels, found.sizes, found.norms(), strict=True)}
    with torch.no_grad():
        hook.after_step(Step(0, 10, lr=0.5))
    want = {name: value.clone() for name, value in before.items()}
    for channel, factor in factors.items():
        for (name, dim), indices in groups.slices(channel).items():
            for index in indices:
                if name in want:
                    want[name].select(dim, int(index)).mul_(factor)
    torch.testing.assert_close(dict(module.named_parameters()), want, check_dtype=False)
    assert any(0 < factor < 1 for factor in factors.values())


def test_growing_decay_adds_its_gradient_to_chosen_channels_only(mixed_program: Program) -> None:
    groups, module = find_groups(mixed_program), mixed_program.module()
    chosen = groups.groups[0].channels[1:3]
    hook = GrowingDecay(groups, chosen, strength=0.8, growth=0.5)
    hook.start(module)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    total = 0.4 / 2 * sum(squared_norm(groups, module, channel) for channel in chosen)
    leaves = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}
    penalty = torch.stack([
        leaves[name].select(dim, int(i)).square().sum() for channel in chosen
        for (name, dim), indices in groups.slices(channel).items() if name in leaves
        for i in indices]).sum() * 0.4 / 2
    assert penalty.item() == pytest.approx(total, rel=1e-5)
    penalty.backward()
    with torch.no_grad():
        hook.before_step(Step(1, 8, lr=0.1))  # after a quarter of the run, with growth over half of it
    for name, parameter in module.named_parameters():
        grad = leaves[name].grad
        want = torch.zeros(()) if grad is None else grad
        torch.testing.assert_close(parameter.grad, want.expand_as(parameter))
    assert [float(hook.strength_at(Step(i, 4, 0.1))) for i in range(4)] == pytest.approx(
        [0.4, 0.8, 0.8, 0.8])
    assert [hook.is_settled(Step(i, 2, 0.1)) for i in range(2)] == [False, True]


def test_channels_after_growing_decay_are_removed_with_little_change(net: Any, quadrant_task: Task) -> None:
    config = StructureRegularization(strength=2.0, channels=CHANNELS, training=LONG)
    regular = regularize(net, quadrant_task, config)
    assert regular.costs() == net.costs()
    small = prune(regular, None, CHANNELS)
    assert small.costs().macs <= 0.6 * net.costs().macs
    x, = quadrant_task.val.example(80)
    want, have = regular.run(x), small.run(x)
    assert float((want - have).norm() / want.norm()) < 1e-3
    at_once = prune(net, None, CHANNELS).run(x)
    assert float((net.run(x) - at_once).norm() / net.run(x).norm()) > 0.05
    assert measure_accuracies(small.module(), quadrant_task.val)[-1] > 0.85
    vanished = remove_vanished(regular)
    assert vanished.costs().macs <= small.costs().macs
    assert float((want - vanished.run(x)).norm() / want.norm()) < 1e-3


def test_group_lasso_produces_exact_zeros(net: Any, quadrant_task: Task) -> None:
    config = StructureRegularization(method="group_lasso", strength=0.15, training=LONG)
    regular = regularize(net, quadrant_task, config)
    small = remove_vanished(regular, tolerance=0.0)
    assert small.costs().macs < 0.9 * net.costs().macs
    x, = quadrant_task.val.example(80)
    torch.testing.assert_close(small.run(x), regular.run(x), rtol=1e-4, atol=1e-4)
    assert measure_accuracies(small.module(), quadrant_task.val)[-1] > 0.85


def test_ignored_layers_are_not_penalized(net: Any, quadrant_task: Task) -> None:
    channels = CHANNELS.replace(ignore=("two",), ratio=0.1)
    config = StructureRegularization(strength=2.0, channels=channels, training=LONG)
    regular = regularize(net, quadrant_task, config)
    assert remove_vanished(regular).state_dict()["two.weight"].shape[0] == 16


@pytest.mark.parametrize("method", ["growing", "group_lasso"])
def test_resumed_run_ends_with_the_same_weights(net: Any, quadrant_task: Task,
                                                tmp_path: Path, method: str) -> None:
    training = LONG.replace(epochs=2)
    config = StructureRegularization(method=method, channels=CHANNELS, training=training)
    path = tmp_path / "r.ckpt"
    first = regularize(net, quadrant_task, config, checkpoint=path)
    again = regularize(net, quadrant_task, config, checkpoint=path)
    torch.testing.assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)


def test_programs_without_removable_channels_are_rejected(net: Any, mixed_program: Program,
                                                          quadrant_task: Task) -> None:
    with pytest.raises(UsageError, match="channels of a quantized program cannot be removed"):
        regularize(quantize(net, quadrant_task), quadrant_task)
    program = Program.capture(nn.Linear(4, 3), torch.zeros(1, 4))
    message = "no channel of this program can be removed: weight (it is an output)"
    with pytest.raises(UsageError, match=re.escape(message)):
        remove_vanished(program)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"strength": 0}, "strength: Input should be greater than 0, got 0"),
    ({"growth": 1.5}, "growth: Input should be less than or equal to 1, got 1.5"),
    ({"method": "ridge"}, "method: Input should be 'growing' or 'group_lasso'"),
])
def test_invalid_settings_are_rejected(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^StructureRegularization: {re.escape(message)}"):
        StructureRegularization(**wrong)
