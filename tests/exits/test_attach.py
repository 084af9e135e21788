"""Where exits hang, what their heads compute, and that training makes them useful."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnxruntime
import pytest
import torch
from tests.programs import Net, measure_accuracies
from torch import nn

from edgewright.distill import Distillation, make_objective
from edgewright.errors import ModelError, UsageError
from edgewright.exits import (
    EarlyExits,
    ExitCostModel,
    HeadTraining,
    PooledHead,
    add_exits,
    count_possible_exits,
    list_head_tensors,
    plan_exits,
)
from edgewright.exporters import to_onnx
from edgewright.goals import Classification
from edgewright.program import Program, split_at_exits
from edgewright.pruning import ChannelPruning, prune
from edgewright.quantization import Quantization, quantize
from edgewright.task import Task
from edgewright.training import Objective, Training

UNTRAINED = EarlyExits(places=1, training=None)
BRIEF = Training(epochs=1, batch_size=32, lr=0.05, augment=False, compute="cpu")


def task_for(x: Any, classes: int = 3) -> Any:
    y = torch.arange(len(x)) % classes
    return Task((x, y), (x, y), (x[:2], y[:2]))


def layers_of(program: Program, node: Any) -> Any:
    """Names of the weights on the way to a node."""
    found, pending = set(), [node]
    while pending:
        current = pending.pop()
        if current.op == "get_attr" and str(current.target).endswith(".weight"):
            found.add(str(current.target).removesuffix(".weight"))
        pending += current.all_input_nodes
    return found


@pytest.fixture(scope="module")
def mlp() -> Any:
    """MACs 32, 64, 64, 24: exits fit after 32, 96 and 160 of 184."""
    torch.manual_seed(0)
    return Program.capture(nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(),
        nn.Linear(8, 3)), torch.zeros(1, 4))


def cuts_of(program: Program, count: int) -> Any:
    """The nodes that so many exits hang on."""
    names = [place.name for place in plan_exits(program, EarlyExits(places=count)).places]
    return [node for node in program.graph.nodes if node.name in names]


@pytest.mark.parametrize(("count", "behind"), [(1, [2]), (2, [2, 4]), (3, [0, 2, 4])])
def test_exits_are_placed_where_they_save_most(mlp: Any, count: int, behind: list[int]) -> None:
    places = cuts_of(mlp, count)
    assert [max(int(name) for name in layers_of(mlp, place)) for place in places] == behind
    assert all("relu" in place.name for place in places)


def test_exits_are_attached_only_where_a_single_layer_input_is_alive(trained_program: Program) -> None:
    places = cuts_of(trained_program, 3)
    assert [layers_of(trained_program, place) for place in places] == [
        {"stem", "norm"}, {"stem", "norm", "one"}, {"stem", "norm", "one", "two"}]
    assert [place.name.rstrip("_0123456789") for place in places] == ["relu", "relu", "flatten"]
    with pytest.raises(ModelError, match="4 early exits were requested, but the graph has only 3"):
        cuts_of(trained_program, 4)
    assert count_possible_exits(trained_program) == 3


def test_more_exits_than_places_raise(mlp: Any) -> None:
    message = ("4 early exits were requested, but the graph has only 3 places where a single tensor "
               "is alive and a head fits; request fewer exits")
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        add_exits(mlp, task_for(torch.zeros(6, 4)), EarlyExits(places=4, training=None))


def grid_means(values: Any, sides: Any) -> Any:
    """Adaptive average pooling of (C, ...) to a grid, flattened, cell by cell."""
    spans = [[slice(i * size // side, math.ceil((i + 1) * size / side)) for i in range(side)]
             for side, size in zip(sides, values.shape[1:], strict=True)]
    cells: list[list[slice]] = [[]]
    for axis in spans:
        cells = [[*cell, span] for cell in cells for span in axis]
    return [float(channel[tuple(cell)].mean()) for channel in values for cell in cells]


def token_means(values: Any) -> Any:
    """The mean over every dimension but the last."""
    return [float(values[..., i].mean()) for i in range(values.shape[-1])]


CASES: dict[str, tuple[Any, ...]] = {
    "2d": (lambda m, x: m.b(m.a(x).relu()), lambda m, x: m.a(x).relu(), (5,),
           {"a": nn.Linear(5, 7), "b": nn.Linear(7, 3)}, 2, lambda v: v.tolist()),
    "tokens": (lambda m, x: m.b(m.a(x).relu()).mean(1), lambda m, x: m.a(x).relu(), (6, 5),
               {"a": nn.Linear(5, 7), "b": nn.Linear(7, 3)}, 2, token_means),
    "1d": (lambda m, x: m.b(m.a(x).relu()).mean(2), lambda m, x: m.a(x).relu(), (2, 7),
           {"a": nn.Conv1d(2, 5, 3), "b": nn.Conv1d(5, 3, 1)}, 2, lambda v: grid_means(v, (2,))),
    "2d image": (lambda m, x: m.b(m.a(x).relu()).mean((2, 3)), lambda m, x: m.a(x).relu(),
                 (2, 7, 5), {"a": nn.Conv2d(2, 5, 3), "b": nn.Conv2d(5, 3, 1)}, 2,
                 lambda v: grid_means(v, (2, 2))),
    "smaller than the grid": (
        lambda m, x: m.b(m.a(x).relu()).mean((2, 3)), lambda m, x: m.a(x).relu(),
        (2, 7, 4), {"a": nn.Conv2d(2, 5, 3), "b": nn.Conv2d(5, 3, 1)}, 4,
        lambda v: grid_means(v, (4, 2))),
    "channels last": (lambda m, x: m.b(m.a(x).relu()).mean((1, 2)), lambda m, x: m.a(x).relu(),
                      (4, 6, 5), {"a": nn.Linear(5, 7), "b": nn.Linear(7, 3)}, 2, token_means),
    "3d": (lambda m, x: m.b(m.a(x).relu()).mean((2, 3, 4)), lambda m, x: m.a(x).relu(),
           (2, 5, 4, 6), {"a": nn.Conv3d(2, 4, 3), "b": nn.Conv3d(4, 3, 1)}, 2,
           lambda v: grid_means(v, (1, 1, 1))),
}


@pytest.mark.parametrize("case", CASES)
def test_a_head_pools_and_is_linear_from_there(case: Any) -> None:
    forward, trunk, shape, layers, pool, features = CASES[case]
    model = Net(forward, **layers).eval()
    x = torch.randn(4, *shape)
    program = Program.capture(model, x[:2])
    staged = add_exits(program, task_for(x), EarlyExits(
        places=1, head=PooledHead(grid=pool), training=None))
    early, final = staged.run(x)
    assert torch.equal(final, program.run(x))
    state = staged.state_dict()
    with torch.no_grad():
        inner = trunk(model, x)
    for row, values in zip(early, inner, strict=True):
        pooled = torch.tensor(features(values))
        want = state["exits.0.weight"] @ pooled + state["exits.0.bias"]
        torch.testing.assert_close(row, want, rtol=1e-4, atol=1e-5)


def test_heads_depend_on_the_seed_and_the_program_is_unchanged(mlp: Any) -> None:
    x = torch.randn(6, 4)
    before = len(list(mlp.graph.nodes))
    torch.manual_seed(5)
    first, again, other = (add_exits(mlp, task_for(x), UNTRAINED, seed=seed) for seed in (0, 0, 1))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(first.run(x)[0], again.run(x)[0])
    assert not torch.equal(first.run(x)[0], other.run(x)[0])
    assert (mlp.exits, len(list(mlp.graph.nodes)), first.exits) == (0, before, 1)
    assert set(first.state_dict()) - set(mlp.state_dict()) == {"exits.0.weight", "exits.0.bias"}


def test_a_staged_program_survives_being_saved(staged: Program, quadrant_task: Task,
                                               tmp_path: Path) -> None:
    staged.save(tmp_path / "p.pt2")
    loaded = Program.load(tmp_path / "p.pt2")
    x = quadrant_task.test.example(5)[0]
    assert loaded.exits == 2
    assert all(torch.equal(a, b) for a, b in zip(loaded.run(x), staged.run(x), strict=True))


def test_the_segments_compose_to_the_whole(staged: Program, quadrant_task: Task) -> None:
    x = quadrant_task.test.example(7)[0]
    segments = split_at_exits(staged)
    assert len(segments) == 3
    live, logits = x, []
    for segment in segments[:-1]:
        exit_logits, live = segment.run(live)
        logits.append(exit_logits)
    logits.append(segments[-1].run(live))
    assert all(torch.equal(a, b) for a, b in zip(logits, staged.run(x), strict=True))
    assert sum(segment.costs().macs for segment in segments) == staged.costs().macs


def test_training_makes_the_exits_useful(trained_program: Program, staged: Program,
                                         quadrant_task: Task) -> None:
    untrained = add_exits(trained_program, quadrant_task, EarlyExits(places=2, training=None))
    before = measure_accuracies(untrained.module(), quadrant_task.val)
    after = measure_accuracies(staged.module(), quadrant_task.val)
    assert before[-1] == measure_accuracies(trained_program.module(), quadrant_task.val)[-1]
    assert all(new > old + 0.2 for old, new in zip(before[:-1], after[:-1], strict=True))
    assert after[-1] > before[-1] - 0.05


def test_training_minimizes_the_given_objective(mlp: Any) -> None:
    class Nothing(Exception):  # noqa: N818
        pass

    class Mine(Objective):
        def loss(self, outputs: Any, batch: Any) -> NoReturn:
            assert len(outputs) == 2
            raise Nothing

    with pytest.raises(Nothing):
        add_exits(mlp, task_for(torch.randn(6, 4)), EarlyExits(
            places=1, training=Training(epochs=1)), objective=Mine())


def test_a_quantized_program_raises_unless_only_heads_are_trained(mlp: Any) -> None:
    task = task_for(torch.randn(6, 4))
    message = ("exits cannot be added to a quantized program; add them before quantizing, or with "
               "training=HeadTraining(), which trains the heads alone")
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        add_exits(quantize(mlp, task), task)


def test_exits_of_a_quantized_program_learn_and_its_integers_stay(trained_program: Program,
                                                                  quadrant_task: Task) -> None:
    integers = quantize(trained_program, quadrant_task, Quantization(
        method="ptq", calibration_samples=32))
    config = EarlyExits(places=1, training=HeadTraining(settings=BRIEF))
    trained = add_exits(integers, quadrant_task, config)
    before, after = integers.state_dict(), trained.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    x = quadrant_task.test.example(40)[0]
    assert torch.equal(trained.run(x)[-1], integers.run(x))
    early, final = measure_accuracies(trained.module(), quadrant_task.val)
    assert final - 0.1 < early
    assert agrees_in_files(trained, x)


def agrees_in_files(program: Program, x: Any, tolerance: float = 1e-4) -> Any:
    """Whether the segments' files, one after the other, compute what the program does."""
    live, logits = [x.numpy()], []
    for segment in split_at_exits(program):
        session = onnxruntime.InferenceSession(to_onnx(segment),
                                               providers=["CPUExecutionProvider"])
        first, *live = session.run(None, {session.get_inputs()[0].name: live[0]})
        logits.append(first)
    wanted = [tensor.numpy() for tensor in program.run(x)]
    return len(logits) == len(wanted) and all(
        np.abs(a - b).max() <= tolerance * np.abs(b).max()
        for a, b in zip(logits, wanted, strict=True))


@pytest.mark.parametrize("head", ["pooled", "convolutional"])
def test_exits_are_quantized_with_their_program(trained_program: Program, quadrant_task: Task,
                                                head: str) -> None:
    staged = add_exits(trained_program, quadrant_task, EarlyExits(
        places=("relu_1",), head=head, training=None))
    integers = quantize(staged, quadrant_task, Quantization(method="ptq", calibration_samples=32))
    x = quadrant_task.test.example(8)[0]
    assert integers.state_dict()["exits.0.weight"].dtype == torch.int8
    assert agrees_in_files(staged, x)
    assert agrees_in_files(integers, x, tolerance=0.03)


def test_a_pruned_program_gets_exits(trained_program: Program, quadrant_task: Task) -> None:
    pruned = prune(trained_program, quadrant_task, ChannelPruning(
        ratio=0.4, criterion="magnitude"))
    staged = add_exits(pruned, quadrant_task, EarlyExits(places=2, training=None))
    x = quadrant_task.test.example(8)[0]
    assert torch.equal(staged.run(x)[-1], pruned.run(x))
    assert agrees_in_files(staged, x)


def test_a_network_too_small_for_exits_raises(mlp: Any) -> None:
    message = "no early exit is expected to save more than it costs on this network"
    with pytest.raises(ModelError, match=message):
        add_exits(mlp, task_for(torch.zeros(6, 4)), EarlyExits(
            cost_model=ExitCostModel(overhead=1.0), training=None))


def test_a_program_with_exits_raises(staged: Program, quadrant_task: Task) -> None:
    with pytest.raises(UsageError, match="the program has 2 early exits already"):
        add_exits(staged, quadrant_task)


@pytest.mark.parametrize(("forward", "shapes"), [
    (lambda m, x: (m.a(x), m.a(x).relu()), r"\(1, 3\), \(1, 3\)"),
    (lambda m, x: m.a(x).argmax(1), r"\(1,\)"),
])
def test_outputs_that_cannot_leave_early_raise(forward: Callable[..., Any], shapes: str) -> None:
    program = Program.capture(Net(forward, a=nn.Linear(4, 3)), torch.zeros(1, 4))
    with pytest.raises(ModelError, match="early exits need one floating-point output with the batch "
                       f"first, the program returns {shapes} for one sample"):
        plan_exits(program)
    assert count_possible_exits(program) == 0


def test_an_output_that_the_goal_does_not_use_is_dropped() -> None:
    program = Program.capture(Net(lambda m, x: {"class": m.b(m.a(x).relu()), "aux": m.a(x)},
                                  a=nn.Linear(4, 8), b=nn.Linear(8, 3)), torch.zeros(2, 4))
    x, y = torch.randn(12, 4), torch.arange(12) % 3
    config = EarlyExits(places=1, training=None)
    with pytest.raises(ModelError, match=r"the model returns 2 outputs .* name it"):
        add_exits(program, task_for(x), config)
    task = Task((x, y), test=(x, y), goal=Classification(output="class"))
    early, full = add_exits(program, task, config).run(x)
    assert early.shape == (12, 3)
    torch.testing.assert_close(full, program.run(x)["class"])


@pytest.mark.parametrize(("wrong", "message"), [
    ({"places": 0}, "places: expected a whole number from 1, 'auto', or names of calls, got 0"),
    ({"places": "many"}, "'auto', or names of calls, got 'many'"),
    ({"places": ()}, r"'auto', or names of calls, got \(\)"),
    ({"places": ("a", "a")}, "places: it has duplicates: a, a"),
    ({"cost_model": {"exit_rate_exponent": 0}}, "exponent: Input should be greater than 0, got 0"),
    ({"cost_model": {"overhead": -1}}, "overhead: Input should be greater than or equal to 0, got -1"),
    ({"cost_model": {"exit_rates": {"relu": 1.5}}},
     "exit_rates.relu: Input should be less than or equal to 1, got 1.5"),
    ({"head": {"pooled": {"grid": 0}}},
     "grid: Input should be greater than or equal to 1, got 0"),
    ({"head": {"token": {"grid": 2}}}, "head.token.grid: unknown setting"),
    ({"head": "huge"}, "or 'dense', or your own object of type HeadDesign, given in Python"),
    ({"calibration": {"max_drop": -0.1}},
     "max_drop: Input should be greater than or equal to 0, got -0.1"),
    ({"calibration": {"max_drop": 1}}, "max_drop: Input should be less than 1, got 1"),
    ({"training": {"heads": {"settings": {"epochs": 0}}}},
     "epochs: Input should be greater than or equal to 1, got 0"),
    ({"training": {"heads": {"gradient_equilibrium": True}}},
     "gradient_equilibrium: unknown setting"),
    ({"exits": 1}, "exits: unknown setting"),
])
def test_settings_out_of_range_raise(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EarlyExits(**wrong)


def test_a_frozen_backbone_is_unchanged_and_its_exits_learn(trained_program: Program,
                                                            quadrant_task: Task) -> None:
    program, task = trained_program, quadrant_task
    config = EarlyExits(places=1, training=HeadTraining(settings=Training(
        epochs=3, batch_size=32, lr=0.1, augment=False, compute="cpu")))
    trained = add_exits(program, task, config)
    before, after = program.state_dict(), trained.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    untrained = add_exits(program, task, config.replace(training=None))
    assert not torch.equal(untrained.state_dict()["exits.0.weight"], after["exits.0.weight"])
    early, final = measure_accuracies(trained.module(), task.val)
    assert early > measure_accuracies(untrained.module(), task.val)[0]
    assert final == measure_accuracies(program.module(), task.val)[0]


def test_norms_of_heads_learn_while_the_network_is_frozen(trained_program: Program,
                                                          quadrant_task: Task) -> None:
    config = EarlyExits(places=1, head="convolutional",
                        training=HeadTraining(settings=BRIEF))
    trained = add_exits(trained_program, quadrant_task, config)
    before, after = trained_program.state_dict(), trained.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert after["exits.0.convolutions.2.running_mean"].abs().max() > 0
    assert not torch.equal(after["exits.0.convolutions.2.weight"],
                           torch.ones_like(after["exits.0.convolutions.2.weight"]))


def test_the_last_exit_teaches_the_others_through_the_objective(trained_program: Program,
                                                                quadrant_task: Task) -> None:
    objective = make_objective(None, Classification(), Distillation(self_weight=1.0))
    alone, taught = (add_exits(trained_program, quadrant_task, EarlyExits(
        places=1, training=BRIEF), objective=chosen) for chosen in (None, objective))
    assert not torch.equal(alone.state_dict()["exits.0.weight"],
                           taught.state_dict()["exits.0.weight"])


def _with_own_exits() -> Any:
    """A network whose own layers are called exits, as those that users train with exits are."""
    torch.manual_seed(0)
    return Net(lambda m, x: m.head(m.exits[1](m.exits[0](m.stem(x).relu())).relu().flatten(1)),
               stem=nn.Conv2d(1, 8, 3, padding=1),
               exits=nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8)]),
               head=nn.Linear(8 * 16, 4))


@pytest.mark.parametrize("head", ["pooled", "convolutional"])
def test_a_models_own_exits_are_part_of_the_frozen_network(quadrant_task: Task, head: str,
                                                           tmp_path: Path) -> None:
    program = Program.capture(_with_own_exits(), quadrant_task.train.example(2))
    trained = add_exits(program, quadrant_task, EarlyExits(
        places=("relu",), head=head, training=HeadTraining(settings=BRIEF)))
    before, after = program.state_dict(), trained.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    heads = after.keys() - before.keys()
    assert {name.partition(".")[0] for name in heads} == {"exits_1"}
    untrained = add_exits(program, quadrant_task, EarlyExits(
        places=("relu",), head=head, training=None)).state_dict()
    assert not any(torch.equal(untrained[name], after[name]) for name in heads)
    trained.save(tmp_path / "p.pt2")
    x = quadrant_task.test.example(5)[0]
    assert torch.equal(trained.run(x)[-1], program.run(x))
    assert all(torch.equal(a, b) for a, b in zip(
        Program.load(tmp_path / "p.pt2").run(x), trained.run(x), strict=True))


def test_a_models_own_exits_learn_with_the_network(quadrant_task: Task) -> None:
    program = Program.capture(_with_own_exits(), quadrant_task.train.example(2))
    after = add_exits(program, quadrant_task, EarlyExits(
        places=("relu",), training=BRIEF)).state_dict()
    before = program.state_dict()
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_names_of_head_tensors_are_known_in_advance(trained_program: Program,
                                                    quadrant_task: Task) -> None:
    own = Program.capture(_with_own_exits(), quadrant_task.train.example(2))
    for program, config in ((trained_program, EarlyExits(places=2, training=None)),
                            (own, EarlyExits(places=("relu",), training=None))):
        added = add_exits(program, quadrant_task, config)
        names = added.state_dict().keys() - program.state_dict().keys()
        assert names <= list_head_tensors(program, config)
        assert not list_head_tensors(program, config) & program.state_dict().keys()
