"""Layers fitted after blocks were removed, against slow references by `np.linalg.lstsq`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgewright.channels import find_branches, remove_branches, resolve_branches
from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.pruning import BlockPruning, find_unfitted_layers, prune_blocks, refit_layers
from edgewright.pruning._refit_plan import find_roles, plan_refit
from edgewright.task import Task, TensorSplit

SAMPLES = 40
EXACT = 1e-9  # a ridge that hardly changes least squares


class Residual(nn.Module):
    """A block with batch norms, and ReLUs that write in place if asked to."""

    def __init__(self, width: int, *, in_place: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(in_place)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x
        result: Tensor = self.relu(y)
        return result


class Dense(nn.Module):
    """A residual block of linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 6)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).relu())
        return x + y


def randomized(model: nn.Module) -> nn.Module:
    """The model with random norms, in evaluation mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, tensor in module.state_dict().items():
                if name in {"weight", "running_var"}:
                    tensor.uniform_(0.5, 1.5)
                elif tensor.is_floating_point():
                    tensor.uniform_(-0.5, 0.5)
    return model.eval()


def make_network(*, in_place: bool = False) -> tuple[Program, TensorSplit]:
    torch.manual_seed(0)
    blocks = [Residual(4, in_place=in_place) for _ in range(3)]
    model = randomized(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *blocks,
                                     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)))
    x = torch.randn(SAMPLES, 3, 6, 6)
    split = TensorSplit((x,), torch.zeros(SAMPLES, dtype=torch.long))
    return Program.capture(model, x[:2]), split


def values_of(program: Program, x: Tensor) -> dict[str, NDArray[Any]]:
    """The value of every call, by the node's name."""
    found = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                found[n.name] = value.detach().double().numpy().copy()
            return value

    Recorder(program.graph_module, garbage_collect_values=False).run(
        x.clone(), enable_io_processing=False)
    return found


def patches(x: NDArray[Any]) -> NDArray[Any]:
    """The 3 x 3 patch around every position, (rows, channels * 9), computed with loops."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return np.stack([padded[n, :, i:i + 3, j:j + 3].ravel()
                     for n in range(len(x)) for i in range(6) for j in range(6)])


def rows(y: NDArray[Any]) -> NDArray[Any]:
    return y.transpose(0, 2, 3, 1).reshape(-1, y.shape[1])


def least_squares(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """What the best affine map of x predicts."""
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    fitted: NDArray[Any] = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return fitted


def remove(program: Program, *names: str) -> Program:
    return remove_branches(program, resolve_branches(program, names))


def distance(first: Program, second: Program, x: Tensor) -> float:
    return float((first.run(x) - second.run(x)).square().mean())


def test_a_linear_layer_before_the_block_is_fitted_to_the_sum_with_it() -> None:
    torch.manual_seed(0)
    program = Program.capture(nn.Sequential(nn.Linear(4, 6), Dense(), nn.Linear(6, 3)),
                              torch.zeros(2, 4))
    x = torch.randn(SAMPLES, 4)
    split = TensorSplit((x,), torch.zeros(SAMPLES, dtype=torch.long))
    refit = refit_layers(program, remove(program, "1"), split, ridge=EXACT)
    expected = least_squares(x.double().numpy(), values_of(program, x)["add"])
    assert refit.fitted == ("0", "2")
    np.testing.assert_allclose(values_of(refit.program, x)["linear"], expected, atol=1e-4)


def test_a_block_is_fitted_to_the_sum_minus_what_it_is_added_to() -> None:
    """The second convolution of block 1 makes up for block 2, with its norm as one layer."""
    program, split = make_network()
    x = split.example(SAMPLES)[0]
    refit = refit_layers(program, remove(program, "2"), split, ridge=EXACT)
    before, after = values_of(program, x), values_of(refit.program, x)
    expected = least_squares(patches(before["relu_"] if "relu_" in before else before["relu"]),
                             rows(before["add__1"] - before["conv2d"]))
    np.testing.assert_allclose(rows(after["batch_norm_1"]), expected, atol=1e-3)


def test_later_layers_see_the_errors_of_earlier_ones() -> None:
    program, split = make_network()
    x = split.example(SAMPLES)[0]
    refit = refit_layers(program, remove(program, "2"), split, ridge=EXACT)
    before, after = values_of(program, x), values_of(refit.program, x)
    assert refit.fitted == ("1.conv2", "3.conv1", "3.conv2", "6")
    first = next(node for node in refit.program.calls() if node.name == "conv2d_5")
    expected = least_squares(patches(after[first.all_input_nodes[0].name]),
                             rows(before["batch_norm_4"]))
    np.testing.assert_allclose(rows(after["batch_norm_4"]), expected, atol=1e-3)


def test_training_mode_computes_the_same_as_evaluation_after_the_fit() -> None:
    """Statistics of fitted norms are those of their inputs on the samples."""
    program, split = make_network()
    x = split.example(SAMPLES)[0]
    fitted = refit_layers(program, remove(program, "1"), split).program
    state = fitted.state_dict()
    for norm, layer in (("2.bn1", "conv2d_3"), ("3.bn2", "conv2d_6")):
        value = rows(values_of(fitted, x)[layer])
        np.testing.assert_allclose(state[f"{norm}.running_mean"], value.mean(axis=0), atol=1e-4)
        np.testing.assert_allclose(state[f"{norm}.running_var"], value.var(axis=0), rtol=1e-3)


def test_weights_keep_their_norms() -> None:
    program, split = make_network()
    fitted = refit_layers(program, remove(program, "2"), split)
    for layer in ("1.conv2", "3.conv1", "3.conv2"):
        before, after = (one.state_dict()[f"{layer}.weight"].flatten(1)
                         for one in (program, fitted.program))
        assert not torch.equal(before, after)
        torch.testing.assert_close(before.norm(dim=1), after.norm(dim=1))


def test_outputs_come_nearer_to_the_original() -> None:
    program, split = make_network()
    unseen = torch.randn(200, 3, 6, 6)
    shortened = remove(program, "1", "2")
    fitted = refit_layers(program, shortened, split).program
    assert distance(fitted, program, unseen) < 0.3 * distance(shortened, program, unseen)


def test_writing_in_place_changes_nothing() -> None:
    (plain, split), (in_place, _) = make_network(), make_network(in_place=True)
    first, second = (refit_layers(one, remove(one, "2"), split).program
                     for one in (plain, in_place))
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], tensor)


def test_the_seed_decides_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewright.pruning._refit.Refitter.__init__.__kwdefaults__",
                        {"most_rows": 200})
    program, split = make_network()
    shortened = remove(program, "2")
    one, same, other = (refit_layers(program, shortened, split, seed=seed).program.state_dict()
                        for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_neither_program_is_changed() -> None:
    program, split = make_network()
    shortened = remove(program, "2")
    before = [{name: tensor.clone() for name, tensor in one.state_dict().items()}
              for one in (program, shortened)]
    refit_layers(program, shortened, split)
    for one, state in zip((program, shortened), before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())


class Grouped(nn.Module):
    """A block whose first layer has groups."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.pointwise = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise(self.depthwise(x).relu())
        return x + y


def test_what_cannot_be_fitted_is_named_and_made_up_for() -> None:
    torch.manual_seed(0)
    program = Program.capture(nn.Sequential(nn.Conv2d(4, 4, 1), Grouped(), Grouped()),
                              torch.zeros(2, 4, 6, 6))
    x = torch.randn(SAMPLES, 4, 6, 6)
    split = TensorSplit((x,), torch.zeros(SAMPLES, dtype=torch.long))
    shortened = remove(program, "1")
    refit = refit_layers(program, shortened, split)
    assert refit.fitted == ("0", "2.pointwise")
    assert refit.skipped == {"2.depthwise": "it has 4 groups"}
    assert refit.skipped == find_unfitted_layers(program, shortened)
    assert distance(refit.program, program, x) < 0.5 * distance(shortened, program, x)


class Tied(nn.Module):
    """Two blocks that share one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.tied = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tied(x).relu()
        x = x + self.own(x).relu()
        result: Tensor = self.tied(x)
        return result


def test_shared_layers_are_not_fitted() -> None:
    program = Program.capture(Tied(), torch.zeros(2, 4))
    split = TensorSplit((torch.randn(SAMPLES, 4),), torch.zeros(SAMPLES, dtype=torch.long))
    refit = refit_layers(program, remove(program, "own"), split)
    assert refit.fitted == ()
    assert refit.skipped == {"tied": "its weight is shared or computed"}


class Overwriting(nn.Module):
    """Reads a tensor again after it has been overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x.view(-1, 2, 2).relu_()
        y: Tensor = self.second(x).relu()
        return x + y


def test_nothing_is_fitted_if_overwritten_memory_is_read() -> None:
    program = Program.capture(Overwriting(), torch.zeros(2, 4))
    split = TensorSplit((torch.randn(SAMPLES, 4),), torch.zeros(SAMPLES, dtype=torch.long))
    shortened = remove(program, "second")
    refit = refit_layers(program, shortened, split)
    reason = "the model reads memory after it has overwritten it"
    assert (refit.fitted, refit.skipped) == ((), {"every layer": reason})
    assert find_unfitted_layers(program, shortened) == refit.skipped
    assert all(torch.equal(tensor, shortened.state_dict()[name])
               for name, tensor in refit.program.state_dict().items())


def test_readers_that_expect_different_values_leave_no_role() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block, self.side = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            total = x + self.block(x).relu()
            result: Tensor = total * 2 + self.side(x)
            return result

    program = Program.capture(Fork(), torch.zeros(2, 4))
    shortened = remove(program, "block")
    roles = {node.name: role for node, role in find_roles(program, shortened).items()}
    assert "linear" not in roles  # one reader expects the sum, another one the layer itself
    assert "stem" not in {fit.unit.name for fit in plan_refit(program, shortened).fits.values()}


def test_only_the_first_layers_are_fitted_if_limited() -> None:
    program, _ = make_network()
    plan = plan_refit(program, remove(program, "2"), 2)
    assert [fit.unit.name for fit in plan.fits.values()] == ["1.conv2", "3.conv1"]
    assert plan.order[-1].op == "output"


@pytest.mark.parametrize(("refit", "fits"), [(None, True), (True, True), (False, False)])
def test_named_blocks_are_refitted_if_there_is_data(refit: bool | None, fits: bool) -> None:
    program, split = make_network()
    task = Task(split, test=split)
    found = prune_blocks(program, task, BlockPruning(remove=("2",), refit=refit))
    assert torch.equal(found.state_dict()["1.conv2.weight"],
                       program.state_dict()["1.conv2.weight"]) != fits


def test_chosen_blocks_are_refitted_too() -> None:
    program, split = make_network()
    task = Task(split, test=split)
    plain = prune_blocks(program, task, BlockPruning(count=1, refit=False))
    fitted = prune_blocks(program, task, BlockPruning(count=1, ridge=0.01))
    assert [one.name for one in find_branches(plain)] == [
        one.name for one in find_branches(fitted)]
    x = split.example(SAMPLES)[0]
    assert distance(fitted, program, x) < distance(plain, program, x)


def test_refit_without_data_is_rejected() -> None:
    program, _ = make_network()
    with pytest.raises(UsageError, match="refit=True needs data; give a task, or omit refit"):
        prune_blocks(program, None, BlockPruning(remove=("2",), refit=True))
