"""Block pruning: the least harmful branch is removed until the goal is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.programs import collect_outputs
from torch import Tensor, nn

from edgewright.channels import find_branches, remove_branch
from edgewright.errors import UsageError
from edgewright.exits import EarlyExits, add_exits
from edgewright.exporters import export
from edgewright.goals import Classification
from edgewright.program import Program
from edgewright.pruning import BlockPruning, ChannelPruning, _blocks, prune, prune_blocks
from edgewright.quantization import quantize
from edgewright.task import Task
from edgewright.training import GoalLoss, Training, train


class Residual(nn.Module):
    """Adds a linear layer's output, as a block does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x).relu()


@pytest.fixture(scope="module")
def task() -> Task:
    """Three classes that are not linearly separable."""
    x = torch.randn(1200, 8, generator=torch.Generator().manual_seed(0))
    y = torch.where(x[:, 0] * x[:, 1] < 0, 0, 1 + (x[:, 2] * x[:, 3] > 0).long())
    return Task((x[:900], y[:900]), (x[900:1100], y[900:1100]), (x[1100:], y[1100:]))


@pytest.fixture(scope="module")
def program(task: Task) -> Program:
    """Two trained residual blocks, one that adds a little noise, one that adds nothing."""
    torch.manual_seed(0)
    first, second, noise, nothing = (Residual() for _ in range(4))
    head = nn.Linear(8, 3)
    train(nn.Sequential(first, second, head), task,
          Training(epochs=30, batch_size=32, lr=0.1, augment=False), GoalLoss(Classification()))
    with torch.no_grad():
        noise.layer.weight.mul_(0.1)
        nothing.layer.weight.zero_()
        nothing.layer.bias.fill_(-1)
    return Program.capture(nn.Sequential(first, second, noise, nothing, head), torch.zeros(1, 8))


def loss_of(program: Program, task: Task) -> float:
    outputs, targets = collect_outputs(program.module(), task.val)
    return float(torch.stack([F.cross_entropy(logits, targets) for logits in outputs]).mean())


def blocks_in(program: Program) -> list[str]:
    return [branch.name for branch in find_branches(program)]


def greedy_removal(program: Program, task: Task, count: int) -> Program:
    """The slow reference: try every branch in every step."""
    for _ in range(count):
        program = min((remove_branch(program, branch) for branch in find_branches(program)),
                      key=lambda shorter: loss_of(shorter, task))
    return program


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_least_harmful_branches_are_removed(program: Program, task: Task, count: int) -> None:
    short = prune_blocks(program, task, BlockPruning(count=count))
    assert blocks_in(short) == blocks_in(greedy_removal(program, task, count))
    assert len(blocks_in(short)) == 4 - count
    assert short.costs().macs == program.costs().macs - 64 * count
    assert len(blocks_in(program)) == 4  # unchanged


def test_branches_that_add_little_are_removed_first(program: Program, task: Task) -> None:
    short = prune_blocks(program, task, BlockPruning(count=2))
    assert blocks_in(short) == ["0.layer", "1.layer"]


def test_ratio_refers_to_macs(program: Program, task: Task) -> None:
    total = program.costs().macs
    short = prune_blocks(program, task, BlockPruning(ratio=65 / total))
    assert short.costs().macs == total - 128  # one block has 64


def test_accuracy_drop_stays_within_max_drop(program: Program, task: Task) -> Any:
    def accuracy(of: Any) -> Any:
        outputs, targets = collect_outputs(of.module(), task.val)
        return float((outputs[-1].argmax(1) == targets).double().mean())

    chain = [greedy_removal(program, task, count) for count in range(5)]
    drops = [accuracy(program) - accuracy(short) for short in chain]
    assert max(drops[:3]) < 0.03 < 0.1 < drops[3]
    for allowed, kept in ((0.03, 2), (1.0, 4)):
        short = prune_blocks(program, task, BlockPruning(max_drop=allowed))
        assert blocks_in(short) == blocks_in(chain[kept])


def test_max_drop_stops_before_count_is_reached(program: Program, task: Task) -> None:
    short = prune_blocks(program, task, BlockPruning(count=4, max_drop=0.03))
    assert blocks_in(short) == ["0.layer", "1.layer"]


def test_nothing_is_removed_if_max_drop_forbids_it() -> None:
    x = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    y = x[:, :3].argmax(1)
    task = Task((x[:50], y[:50]), (x[50:80], y[50:80]), (x[80:], y[80:]))

    class Negate(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return x + super().forward(x)

    turn = Negate(8, 8, bias=False)
    head = nn.Linear(8, 3, bias=False)
    with torch.no_grad():
        turn.weight.copy_(-2 * torch.eye(8))  # negates every input
        head.weight.copy_(-torch.eye(8)[:3])
    model = Program.capture(nn.Sequential(turn, head), torch.zeros(1, 8))
    assert prune_blocks(model, task, BlockPruning(max_drop=0.01)) is model


def test_later_rounds_score_only_the_best_branches_again(program: Program, task: Task,
                                                         monkeypatch: pytest.MonkeyPatch) -> Any:
    tried = []

    def counted(of: Any, branch: Any) -> Any:
        tried.append(branch.name)
        return remove_branch(of, branch)

    monkeypatch.setattr(_blocks, "remove_branch", counted)
    prune_blocks(program, task, BlockPruning(count=3, rescore=1))
    assert tried[:4] == ["0.layer", "1.layer", "2.layer", "3.layer"]
    assert len(tried) == 4 + 1 + 1
    assert set(tried[4:]) <= {"0.layer", "1.layer", "2.layer", "3.layer"}
    assert {"2.layer", "3.layer"} & set(tried[4:])


def test_only_the_given_number_of_validation_samples_is_used(program: Program, task: Task,
                                                             monkeypatch: pytest.MonkeyPatch) -> Any:
    used_splits = []

    def counted(function: Any) -> Any:
        def run(module: nn.Module, split: Any, goal: Any) -> Any:
            used_splits.append((split.name, len(split)))
            return function(module, split, goal)

        return run

    for name in ("measure_loss", "evaluate_module"):
        monkeypatch.setattr(_blocks, name, counted(getattr(_blocks, name)))
    prune_blocks(program, task, BlockPruning(count=1, samples=16, max_drop=1.0))
    assert used_splits == [("val", 16)] * (4 + 2)  # the loss of each branch; the metric twice


def test_branches_with_ignored_layers_are_kept(program: Program, task: Task) -> None:
    short = prune_blocks(program, task, BlockPruning(count=1, ignore=("3", "2.layer")))
    assert {"2.layer", "3.layer"} < set(blocks_in(short))
    with pytest.raises(UsageError, match="ignore='9' matches no layer"):
        prune_blocks(program, task, BlockPruning(count=1, ignore=("9",)))


def test_early_exits_are_kept(program: Program, task: Task) -> None:
    staged = add_exits(program, task, EarlyExits(places=2, training=None))
    short = prune_blocks(staged, task, BlockPruning(count=2))
    assert short.exits == 2
    assert blocks_in(short) == blocks_in(greedy_removal(staged, task, 2))
    assert len(short.run(torch.zeros(5, 8))) == 3


def test_blocks_can_be_pruned_before_and_after_channels(task: Task) -> None:
    torch.manual_seed(0)

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(8, 24), nn.Linear(24, 8)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.down(self.up(x).relu())

    model = nn.Sequential(Wide(), Wide(), nn.Linear(8, 3))
    whole = Program.capture(model, torch.zeros(1, 8))
    channels, blocks = ChannelPruning(criterion="magnitude", ratio=0.4), BlockPruning(count=1)
    first = prune(prune_blocks(whole, task, blocks), None, channels)
    last = prune_blocks(prune(whole, None, channels), task, blocks)
    for short in (first, last):
        assert len(blocks_in(short)) == 1
        assert short.costs().macs < whole.costs().macs / 2
        assert short.run(torch.zeros(4, 8)).shape == (4, 3)


def test_pruned_program_can_be_trained_and_exported(program: Program, task: Task,
                                                    tmp_path: Path) -> None:
    short = prune_blocks(program, task, BlockPruning(count=3))
    module = short.module(train=True)
    record = train(module, task, Training(epochs=3, batch_size=32, lr=0.05, augment=False),
                   GoalLoss(Classification()))
    assert record.history[-1].loss < record.history[0].loss
    path = export(short.with_state(module.state_dict()), "onnx", tmp_path / "short.onnx")
    assert path.stat().st_size > 0


def test_program_without_branches_is_rejected(task: Task) -> None:
    chain = Program.capture(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 3)), torch.zeros(1, 8))
    with pytest.raises(UsageError, match="no residual branch of this program can be removed: "
                                         "it has no addition of two tensors of equal shape"):
        prune_blocks(chain, task, BlockPruning(count=1))
    residual = Program.capture(nn.Sequential(Residual(), nn.Linear(8, 3)), torch.zeros(1, 8))
    with pytest.raises(UsageError, match=r"except those kept by ignore=\['0'\]"):
        prune_blocks(residual, task, BlockPruning(count=1, ignore=("0",)))


def test_quantized_program_is_rejected(program: Program, task: Task) -> None:
    with pytest.raises(UsageError, match="blocks of a quantized program cannot be removed; remove "
                                         "them before quantizing"):
        prune_blocks(quantize(program, task), task, BlockPruning(count=1))


def test_unreachable_goal_is_rejected(program: Program, task: Task) -> None:
    total = program.costs().macs
    with pytest.raises(UsageError, match="cannot remove 5 blocks: removing all 4 removable "
                                         f"branches removes {100 * 256 / total:.0f} % of the MACs"):
        prune_blocks(program, task, BlockPruning(count=5))
    with pytest.raises(UsageError, match="cannot remove 99 % of the MACs: removing all 4 "):
        prune_blocks(program, task, BlockPruning(ratio=0.99))


@pytest.mark.parametrize(("options", "words"), [
    ({"count": 2}, "remove 2 blocks"),
    ({"count": 2, "ratio": 0.5, "max_drop": 0.01},
     "remove 2 blocks or 50 % of the MACs, metric drop at most 0.01"),
    ({"remove": ("a",)}, "remove 1 block (a)"),
    ({"remove": tuple("abcde")}, "remove 5 blocks (a, b, c and 2 more)"),
    ({"max_drop": 0.005}, "remove blocks, metric drop at most 0.005")])
def test_goal_describes_the_settings(options: dict[str, Any], words: str) -> None:
    assert BlockPruning(**options).goal == words


def test_named_blocks_are_removed_without_data(program: Program, task: Task,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("measure_loss", "evaluate_module"):  # any pass over data fails
        monkeypatch.setattr(_blocks, name, None)
    config = BlockPruning(remove=("2.layer", "0.layer"))
    for data in (None, task):
        short = prune_blocks(program, data, config)
        assert blocks_in(short) == ["1.layer", "3.layer"]
        assert short.costs().macs == program.costs().macs - 128


def test_unknown_names_of_blocks_are_rejected(program: Program) -> None:
    with pytest.raises(UsageError, match=r"^'9' is no branch of this program; it has 0\.layer, "
                                         r"1\.layer, 2\.layer, 3\.layer$"):
        prune_blocks(program, None, BlockPruning(remove=("9",)))


def test_blocks_are_not_chosen_without_data(program: Program) -> None:
    with pytest.raises(UsageError, match="to remove 2 blocks, blocks are scored on data; give a "
                                         "task, or the names of blocks to remove"):
        prune_blocks(program, None, BlockPruning(count=2))


@pytest.mark.parametrize(("setting", "value"), [
    ("count", 1), ("ratio", 0.2), ("max_drop", 0.1), ("ignore", ("a",)), ("samples", 8),
    ("rescore", 2)])
def test_settings_that_choose_blocks_are_rejected_with_names(setting: str, value: Any) -> None:
    with pytest.raises(UsageError, match="BlockPruning: the blocks to remove are named, so nothing "
                                         f"is left to choose with {setting}; omit either"):
        BlockPruning(remove=("a",), **{setting: value})


def test_config_without_a_goal_is_rejected() -> None:
    with pytest.raises(UsageError, match="BlockPruning needs a goal; give count, ratio or"):
        BlockPruning()


@pytest.mark.parametrize(("option", "value"), [
    ("count", 0), ("ratio", 0), ("ratio", 1), ("max_drop", -0.1), ("samples", 0), ("rescore", 0)])
def test_values_out_of_range_are_rejected(option: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"BlockPruning: {option}: Input should be"):
        BlockPruning(**{"count": 1, option: value})
