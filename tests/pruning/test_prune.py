"""Channel pruning: removed channels, savings, steps, errors, and training afterwards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgewright.allocation import LatencyTable, LayerTimes, smallest
from edgewright.channels import LegalWidths, find_groups
from edgewright.errors import ModelError, UsageError
from edgewright.goals import Classification
from edgewright.program import Program
from edgewright.pruning import ChannelPruning, prune
from edgewright.quantization import quantize
from edgewright.task import Task
from edgewright.training import GoalLoss, Training, train


def magnitude(**options: Any) -> Any:
    return ChannelPruning(**{"criterion": "magnitude", "round_to": 1, **options})


def test_units_with_the_smallest_weights_are_removed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 3))
    program = Program.capture(model, torch.zeros(1, 4))
    pruned = prune(program, None, magnitude(ratio=0.4, target="channels")).state_dict()
    (into, bias), (out, last) = ([p.detach() for p in model[i].parameters()] for i in (0, 2))
    norms = [float(into[i].square().sum() + bias[i] ** 2 + out[:, i].square().sum())
             for i in range(10)]
    kept = sorted(sorted(range(10), key=norms.__getitem__)[4:])
    want = {"0.weight": into[kept], "0.bias": bias[kept], "2.weight": out[:, kept], "2.bias": last}
    torch.testing.assert_close(pruned, want, rtol=0, atol=0)
    assert program.costs().parameters == 4 * 10 + 10 + 10 * 3 + 3  # unchanged


@pytest.mark.parametrize("criterion", ["magnitude", "taylor", "random"])
@pytest.mark.parametrize("allocation", ["uniform", "global", "solved"])
@pytest.mark.parametrize("target", ["macs", "params"])
def test_costs_match_the_removed_channels(mixed_program: Program, mixed_task: Task, criterion: str,
                                          allocation: str, target: str) -> None:
    before = mixed_program.costs()
    pruned = prune(mixed_program, mixed_task, ChannelPruning(
        criterion=criterion, allocation=allocation, target=target, ratio=0.4, round_to=1))
    after = pruned.costs()
    name = "macs" if target == "macs" else "parameters"
    left = getattr(after, name) / getattr(before, name)
    assert 0.3 < left <= 0.6
    assert pruned.run(torch.zeros(3, 2, 4, 4)).shape == (3, 3)
    widths = [len(pruned.state_dict()[name]) for name in ("first.weight", "head.weight")]
    # A channel of the first group has 18 + 2 + 9 + 1 weights, and 16 in each unit of the second.
    assert after.parameters == 30 * widths[0] + widths[1] * (16 * widths[0] + 1 + 3) + 3
    assert after.macs == 16 * widths[0] * (18 + 9) + widths[1] * (16 * widths[0] + 3)


def test_pruned_program_can_be_saved_and_loaded(mixed_program: Program, tmp_path: Path) -> None:
    pruned = prune(mixed_program, None, magnitude())
    pruned.save(tmp_path / "p.pt2")
    loaded = Program.load(tmp_path / "p.pt2")
    x = torch.randn(5, 2, 4, 4)
    assert torch.equal(loaded.run(x), pruned.run(x))
    assert loaded.costs() == pruned.costs()


def test_pruned_program_can_be_trained(mixed_program: Program, mixed_task: Task) -> None:
    pruned = prune(mixed_program, mixed_task,
                   ChannelPruning(criterion="taylor", ratio=0.3, round_to=1))
    module = pruned.module(train=True)
    record = train(module, mixed_task, Training(epochs=12, batch_size=16, lr=0.1, augment=False),
                   GoalLoss(Classification()))
    losses = [epoch.loss for epoch in record.history]
    assert losses[-1] < 0.9 * losses[0]
    assert pruned.with_state(module.state_dict()).costs() == pruned.costs()


def test_result_depends_on_the_seed(mixed_program: Program, mixed_task: Task) -> None:
    for criterion in ("random", "taylor"):
        config = ChannelPruning(criterion=criterion, samples=16, round_to=1)
        first, again, other = (prune(mixed_program, mixed_task, config, seed=seed).state_dict()
                               for seed in (1, 1, 2))
        torch.testing.assert_close(first, again, rtol=0, atol=0)
        assert any(first[k].shape != other[k].shape or not torch.equal(first[k], other[k])
                   for k in first)


def test_default_config_removes_half_of_the_macs(mixed_task: Task) -> None:
    config = ChannelPruning()
    assert (config.ratio, config.target, config.criterion, config.round_to, config.allocation) == (
        0.5, "macs", "gauss_newton", "auto", "solved")
    program = Program.capture(nn.Sequential(nn.Flatten(), nn.Linear(32, 24), nn.ReLU(),
                                            nn.Linear(24, 3)), torch.zeros(1, 2, 4, 4))
    assert prune(program, mixed_task).costs().macs / program.costs().macs == 0.5


def test_ignored_layers_keep_their_width(mixed_program: Program) -> None:
    pruned = prune(mixed_program, None, magnitude(ratio=0.1, ignore=("first",)))
    assert pruned.state_dict()["first.weight"].shape[0] == 5
    assert pruned.state_dict()["head.weight"].shape[0] < 6


def test_ignore_without_a_match_is_rejected(mixed_program: Program) -> None:
    with pytest.raises(UsageError, match=r"ignore='convX' matches no layer; layers: deep, "
                                         "first, head, last, norm"):
        prune(mixed_program, None, magnitude(ignore=("convX",)))


def test_error_lists_why_nothing_can_be_pruned() -> None:
    program = Program.capture(nn.Linear(4, 3), torch.zeros(1, 4))
    message = "no channel of this program can be pruned: weight (it is an output)"
    with pytest.raises(UsageError, match=re.escape(message)):
        prune(program, None, magnitude())
    without = Program.capture(nn.ReLU(), torch.zeros(1, 4))
    with pytest.raises(UsageError, match="can be pruned: it has no layer with weights"):
        prune(without, None, magnitude())


def test_quantized_program_is_rejected(mixed_program: Program, mixed_task: Task) -> None:
    with pytest.raises(UsageError, match="a quantized program cannot be pruned; prune before "
                                         "quantizing"):
        prune(quantize(mixed_program, mixed_task), mixed_task)


def test_unreachable_ratio_is_rejected(mixed_program: Program) -> None:
    groups = find_groups(mixed_program)
    macs, _ = groups.costs_without(smallest(groups, LegalWidths()))
    keeps = macs / mixed_program.costs().macs
    with pytest.raises(UsageError, match=f"cannot remove 99 % of the macs: the smallest legal "
                                         f"program keeps {100 * keeps:.1f} %"):
        prune(mixed_program, None, magnitude(ratio=0.99))


def test_criterion_that_needs_data_is_rejected_without_a_task(mixed_program: Program) -> None:
    with pytest.raises(UsageError, match="criterion='gauss_newton' needs data"):
        prune(mixed_program, None, ChannelPruning(round_to=1))


@pytest.mark.parametrize("steps", [2, 3])
@pytest.mark.parametrize("allocation", ["uniform", "global", "solved"])
def test_several_steps_reach_the_ratio_of_the_original_program(mixed_program: Program, mixed_task: Task, steps: int,
                                                               allocation: str) -> Any:
    before = mixed_program.costs().macs
    seen = []

    def recover(program: Program, step: Any) -> Any:
        seen.append((step, program.costs().macs / before))
        return program

    config = ChannelPruning(criterion="magnitude", ratio=0.6, steps=steps, round_to=1,
                            allocation=allocation)
    pruned = prune(mixed_program, mixed_task, config, recover=recover)
    assert [step for step, _ in seen] == list(range(1, steps))
    left = [share for _, share in seen] + [pruned.costs().macs / before]
    for step, share in enumerate(left, start=1):
        assert share <= 1 - 0.6 * step / steps + 1e-9
    assert left == sorted(left, reverse=True)
    assert left[-1] > 0.2


def test_each_step_scores_the_recovered_program() -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    program = Program.capture(model, torch.zeros(1, 4))

    def recover(program: Program, step: Any) -> Any:
        """Set the first four of the six remaining units to zero."""
        state = program.state_dict()
        state["0.weight"][:4] = 0.0
        state["2.weight"][:, :4] = 0.0
        return program.with_state(state)

    config = magnitude(ratio=0.5, steps=2, target="channels")
    pruned = prune(program, None, config, recover=recover).state_dict()
    once = prune(program, None, magnitude(ratio=0.25, target="channels")).state_dict()
    torch.testing.assert_close(pruned["0.weight"][-2:], once["0.weight"][-2:], rtol=0, atol=0)
    assert pruned["0.weight"].shape == (4, 4)
    assert float(pruned["0.weight"][:2].abs().sum()) == 0.0


def test_unreachable_ratio_is_rejected_before_the_first_step(mixed_program: Program) -> None:
    called = []
    with pytest.raises(UsageError, match="cannot remove 99 % of the macs"):
        prune(mixed_program, None, magnitude(ratio=0.99, steps=4),
              recover=lambda program, step: called.append(step))  # type: ignore[arg-type,return-value]
    assert called == []


def test_latency_target_uses_the_latency_table(mixed_program: Program) -> None:
    sizes = (1, 5, 80)
    line = LayerTimes(sizes, sizes, tuple(tuple(float(a * b) for b in sizes) for a in sizes))
    table = LatencyTable("a clock", {"head.weight": line})
    pruned = prune(mixed_program, None, magnitude(ratio=0.5, target="latency"), latency=table)
    units, inputs = pruned.state_dict()["head.weight"].shape
    assert 0.3 * 6 * 80 < units * inputs <= 0.5 * 6 * 80


def test_ram_target_reduces_peak_memory(mixed_program: Program) -> None:
    before = mixed_program.costs().peak_activation_bytes
    pruned = prune(mixed_program, None, magnitude(ratio=0.3, target="ram"))
    assert pruned.costs().peak_activation_bytes <= 0.7 * before


@pytest.mark.parametrize(("wrong", "message"), [
    ({"ratio": 0}, "ratio: Input should be greater than 0, got 0"),
    ({"ratio": 1}, "ratio: Input should be less than 1, got 1"),
    ({"ratio": -0.5}, "ratio: Input should be greater than 0, got -0.5"),
    ({"ratio": 1.5}, "ratio: Input should be less than 1, got 1.5"),
    ({"ratio": float("nan")}, "ratio: "),
    ({"round_to": 0}, "round_to: Input should be greater than or equal to 1 or 'auto', got 0"),
    ({"samples": 0}, "samples: Input should be greater than or equal to 1, got 0"),
    ({"criterion": "luck"}, "criterion: Input should be 'l1', 'l2', 'magnitude', "),
    ({"target": "bytes"}, "target: Input should be 'macs', 'params', 'channels', "
                           "'ram' or 'latency', got 'bytes'"),
    ({"allocation": "fair"}, "allocation: Input should be 'uniform', 'global' or "
                              "'solved', got 'fair'"),
    ({"steps": 0}, "steps: Input should be greater than or equal to 1, got 0"),
    ({"ration": 0.3}, "ration: unknown setting; did you mean ratio"),
])
def test_invalid_settings_are_rejected(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^ChannelPruning: {re.escape(message)}"):
        ChannelPruning(**wrong)


@pytest.mark.parametrize(("settings", "normalizes_scores"), [
    ({}, False), ({"criterion": "taylor"}, False), ({"criterion": "magnitude"}, True),
    ({"criterion": "magnitude", "normalize": False}, False), ({"normalize": True}, True)])
def test_scores_are_normalized_if_their_scale_differs_between_layers(settings: dict[str, Any],
                                                                     normalizes_scores: bool) -> None:
    assert ChannelPruning(**settings).normalizes_scores is normalizes_scores


def test_prove_export_reports_failed_exports(mixed_program: Program,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(program: Program) -> None:
        raise ModelError("no translation")

    monkeypatch.setattr("edgewright.pruning._prune.prove_export", refuse)
    with pytest.raises(ModelError, match="no translation"):
        prune(mixed_program, None, magnitude(ratio=0.3))
    assert prune(mixed_program, None, magnitude(ratio=0.3, prove_export=False)).costs().macs
