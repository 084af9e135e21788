"""Pruning weights: schedules, patterns, and zeros that last up to the exported file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgewright.distill import fit
from edgewright.errors import UsageError
from edgewright.exits import EarlyExits, add_exits
from edgewright.exporters import to_onnx
from edgewright.graph import sparse_tensors
from edgewright.pipeline import Recipe
from edgewright.program import Program, fold_batch_norm
from edgewright.pruning import ChannelPruning, WeightPruning, prune, prune_weights
from edgewright.pruning._gradual import GradualMask
from edgewright.quantization import QAT, Quantization, quantize
from edgewright.task import Task
from edgewright.training import LabelLoss, Step, Training

SHORT = Training(epochs=3, batch_size=32, lr=0.02, augment=False, compute="cpu")
ONCE = WeightPruning(sparsity=0.8, schedule="one_shot", training=None)
LAYERS = ("stem", "one", "two", "head")


@pytest.fixture(scope="module")
def net(trained_program: Program) -> Any:
    return trained_program


@pytest.fixture(scope="module")
def sparse(net: Any) -> Any:
    return prune_weights(net, None, ONCE)


def zeros(program: Program) -> Any:
    """Where each pruned weight is zero."""
    state = program.state_dict()
    return {f"{name}.weight": state[f"{name}.weight"] == 0 for name in LAYERS}


def share(flags: Any) -> Any:
    return float(torch.cat([f.flatten() for f in flags.values()]).double().mean())


def at_least(flags: Any, of: Any) -> Any:
    """Whether every zero of ``of`` is a zero of ``flags``."""
    return all(bool((flags[name] | ~of[name]).all()) for name in of)


def test_at_once_the_smallest_weights_of_all_layers_go(net: Any, sparse: Any) -> None:
    before, after = net.state_dict(), sparse.state_dict()
    names = [f"{name}.weight" for name in LAYERS]
    cut = torch.cat([before[name].abs().flatten() for name in names]).quantile(0.8)
    for name in names:
        want = torch.where(before[name].abs() <= cut, 0.0, before[name])
        assert torch.equal(after[name], want)
    assert all(torch.equal(after[k], before[k]) for k in before if k not in names)
    assert share(zeros(sparse)) == pytest.approx(0.8, abs=1e-3)
    assert sparse.sparsity.keys() == set(names)
    assert net.sparsity == {}
    assert share(zeros(net)) == 0


def test_layer_by_layer_each_loses_the_same_share(net: Any) -> None:
    pruned = prune_weights(net, None, ONCE.replace(scope="layer"))
    for name, value in pruned.sparsity.items():
        assert value == pytest.approx(0.8, abs=1 / net.state_dict()[name].numel())


def test_blocks_hold_and_layers_they_do_not_fit_stay_dense(net: Any) -> None:
    pruned = prune_weights(net, None, WeightPruning(pattern="2:4", schedule="one_shot",
                                                    training=None))
    assert pruned.sparsity == {"head.weight": 0.5, "one.weight": 0.5, "two.weight": 0.5}
    one = pruned.state_dict()["one.weight"]
    assert int((one.reshape(16, 4, 4, 9) != 0).sum(dim=2).max()) == 2


def test_ignored_layers_stay_dense_and_tied_weights_are_pruned_as_one() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[2].weight = model[1].weight
    program = Program.capture(model, torch.zeros(1, 4))
    pruned = prune_weights(program, None, ONCE.replace(ignore=("0",)))
    assert list(pruned.sparsity.values()) == [1 - 3 / 16]
    state = pruned.state_dict()
    assert not (state["0.weight"] == 0).any()
    weight = state[next(iter(pruned.sparsity))]
    x = torch.randn(5, 4)
    hidden = nn.functional.linear(model[0](x), weight, model.get_parameter("1.bias"))
    assert torch.allclose(pruned.run(x), nn.functional.linear(hidden, weight, model.get_parameter("2.bias")))


@pytest.mark.parametrize("criterion", ["magnitude", "movement"])
@pytest.mark.parametrize("pattern", ["unstructured", "1:4"])
def test_gradually_the_full_sparsity_is_reached(net: Any, quadrant_task: Task, criterion: str,
                                                pattern: str) -> None:
    sparsity = {"sparsity": 0.75} if pattern == "unstructured" else {}
    config = WeightPruning(pattern=pattern, criterion=criterion, training=SHORT, every=2,
                           **sparsity)
    pruned = prune_weights(net, quadrant_task, config)
    flags = {name: zeros(pruned)[name] for name in pruned.sparsity}
    assert share(flags) == pytest.approx(0.75, abs=2e-3)
    again = fit(pruned, quadrant_task, SHORT)
    assert at_least({name: again.state_dict()[name] == 0 for name in flags}, of=flags)
    assert not torch.equal(again.state_dict()["one.weight"], pruned.state_dict()["one.weight"])


def test_the_schedule_is_cubic_and_ends_where_it_should() -> None:
    layer = nn.Linear(10, 10, bias=False)
    config = WeightPruning(sparsity=0.8, end=0.5, every=2)
    hook = GradualMask({"weight": None}, config)
    hook.start(layer)
    found = []
    with torch.no_grad():
        for index in range(20):
            layer.weight.add_(0.01)  # an optimiser that moves everything
            step = Step(index, 20, 0.1)
            hook.after_step(step)
            found.append(int((layer.weight == 0).sum()))
            assert hook.settled(step) == (index >= 9)
    want = [round(100 * 0.8 * (1 - (1 - t / 10) ** 3)) for t in (2, 4, 6, 8, 10)]
    assert found == [0, *(n for count in want[:-1] for n in (count, count)), *[want[-1]] * 11]


def test_movement_keeps_what_training_moves_away_from_zero_and_lets_weights_return() -> None:
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[4.0, -3.0, 2.0, -1.0]]))
    hook = GradualMask({"weight": None}, WeightPruning(sparsity=0.5, criterion="movement", every=1,
                                                  scope="layer"))
    hook.start(layer)
    masks = []
    # Growing: a gradient against the sign. First the large two shrink, then the small two do.
    for index, gradient in enumerate([[1.0, -1.0, -1.0, 1.0]] * 7 + [[-9.0, 9.0, 9.0, -9.0]]):
        layer.weight.grad = torch.tensor([gradient])
        with torch.no_grad():
            hook.before_step(Step(index, 10, 0.1))
            hook.after_step(Step(index, 10, 0.1))
        masks.append((layer.weight != 0).tolist()[0])
    assert masks[6] == masks[7] == [False, False, True, True]
    moved = hook.state()["moved/weight"].tolist()[0]
    assert moved == [-28 + 36, -21 + 27, 14 - 18, 7 - 9]
    assert hook.state()["aside/weight"].tolist() == [[4.0, -3.0, 2.0, -1.0]]
    with torch.no_grad():
        hook.after_step(Step(6, 10, 0.1))  # the last update, with the scores as they are now
    assert layer.weight.tolist() == [[4.0, -3.0, 0.0, 0.0]]


class InterruptedRunError(Exception):
    pass


class StopInEpoch:
    """Interrupts a run in the epoch after ``epochs`` whole ones."""

    def __init__(self, epochs: Any) -> None:
        self.left = epochs

    def advance(self, samples: Any, loss: Any) -> None:
        if self.left == 0:
            raise InterruptedRunError

    def epoch(self, record: Any) -> None:
        self.left -= 1

    def start(self, *told: Any) -> None:
        pass

    note = stop = start


@pytest.mark.parametrize("criterion", ["magnitude", "movement"])
@pytest.mark.parametrize("epochs", [1, 2])
def test_an_interrupted_run_ends_in_the_same_weights(net: Any, quadrant_task: Task, tmp_path: Path, criterion: str,
                                                     epochs: int) -> None:
    config = WeightPruning(sparsity=0.7, criterion=criterion, every=3, training=SHORT)
    whole = prune_weights(net, quadrant_task, config)
    path = tmp_path / "weights.ckpt"
    with pytest.raises(InterruptedRunError):
        prune_weights(net, quadrant_task, config, checkpoint=path,
                      progress=StopInEpoch(epochs))
    resumed = prune_weights(net, quadrant_task, config, checkpoint=path)
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_zeros_last_through_every_later_pass(net: Any, sparse: Any, quadrant_task: Task,
                                             tmp_path: Path) -> None:
    before = zeros(sparse)
    with_exits = add_exits(sparse, quadrant_task, EarlyExits(places=1, training=SHORT))
    assert at_least(zeros(with_exits), of=before)
    sparse.save(tmp_path / "p.pt2")
    loaded = Program.load(tmp_path / "p.pt2")
    assert loaded.sparsity == sparse.sparsity
    adamw = SHORT.replace(optimizer="adamw", clip_norm=1.0)
    assert at_least(zeros(fit(loaded, quadrant_task, adamw)), of=before)
    assert at_least(zeros(fold_batch_norm(loaded)), of=before)
    sliced = prune(sparse, None, ChannelPruning(criterion="magnitude", ratio=0.3))
    assert sliced.sparsity.keys() == sparse.sparsity.keys()
    assert at_least(zeros(fit(sliced, quadrant_task, SHORT)), of=zeros(sliced))
    assert sparse_tensors(sparse.with_state(net.state_dict()).graph_module)


@pytest.mark.parametrize("method", ["ptq", QAT(training=SHORT)], ids=["ptq", "qat"])
def test_the_exported_file_holds_the_zeros(sparse: Any, quadrant_task: Task, method: Any) -> None:
    before = zeros(sparse)
    tuned = fit(sparse, quadrant_task, SHORT)
    config = Quantization(method=method, calibration_samples=64)
    quantized = quantize(tuned, quadrant_task, config)
    assert at_least(zeros(quantized), of=before)
    model = onnx.load_from_string(to_onnx(quantized))
    stored = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    weights = [array for array in stored if array.dtype == np.int8 and array.ndim > 1]
    assert sum(array.size for array in weights) == sum(f.numel() for f in before.values())
    assert sum(int((array == 0).sum()) for array in weights) >= sum(
        int(f.sum()) for f in before.values())


def test_zeros_of_the_float_file_are_plain_zeros(sparse: Any) -> None:
    model = onnx.load_from_string(to_onnx(sparse))
    stored = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    count = sum(int((array.view(np.uint32) == 0).sum()) for array in stored
                if array.dtype == np.float32 and array.ndim > 1)
    assert count == sum(int(f.sum()) for f in zeros(sparse).values())


def test_the_program_is_left_as_it_was_and_data_is_asked_for(net: Any, mixed_task: Task,
                                                             quadrant_task: Task) -> None:
    before = net.state_dict()
    with pytest.raises(UsageError, match="needs data; give a task, or use schedule='one_shot' and "
                                         "training=None"):
        prune_weights(net)
    with pytest.raises(UsageError, match=r"ignore='x' matches no layer; there are: head, one, stem, two"):
        prune_weights(net, None, ONCE.replace(ignore=("x",)))
    with pytest.raises(UsageError, match="no weight to prune: no convolution or linear layer is "
                                         "left whose input channels are a multiple of 512"):
        prune_weights(net, None, WeightPruning(pattern="2:512", schedule="one_shot",
                                               training=None))
    with pytest.raises(UsageError, match="a quantised program cannot be pruned; prune before"):
        prune_weights(quantize(net, quadrant_task), None, ONCE)
    assert all(torch.equal(net.state_dict()[name], before[name]) for name in before)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"pattern": "2:2"}, "pattern='2:2' is not understood; write 'unstructured', or N:M"),
    ({"pattern": "half"}, "pattern='half' is not understood"),
    ({"pattern": "2:4", "sparsity": 0.6}, "pattern='2:4' makes 0.5 of the weights zero, not "
                                          "sparsity=0.6; leave sparsity out"),
    ({"criterion": "movement", "schedule": "one_shot"}, "criterion='movement' looks at how "),
    ({"training": None}, "schedule='gradual' prunes while it trains; give a training"),
    ({"sparsity": 1.0}, "WeightPruning: sparsity: Input should be less than 1, got 1.0"),
    ({"end": 0}, "WeightPruning: end: Input should be greater than 0, got 0"),
    ({"every": 0}, "WeightPruning: every: Input should be greater than or equal to 1, got 0"),
    ({"layers": {"one": 1.0}}, "layers: 'one' is given 1; write the share of its weights that "
                               "become zero, above 0 and below 1, or None to leave it whole"),
    ({"layers": {"one": 0}}, "layers: 'one' is given 0; write the share"),
    ({"layers": {"one": 0.5}, "pattern": "2:4"}, "layers=['one'] have a sparsity of their own, and "
                                                 "pattern='2:4' makes it the same everywhere"),
    ({"layers": {"one": None}}, "sparsity=None prunes the layers in layers alone, and none is "),
    ({"sparsity": None}, "sparsity=None prunes the layers in layers alone, and none is there"),
    ({"scope": "all"}, "WeightPruning: scope: Input should be 'global' or 'layer'"),
])
def test_a_setting_out_of_its_range_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        WeightPruning(**wrong)


def test_settings_survive_being_written() -> None:
    for config in (ONCE, WeightPruning(pattern="1:4"), WeightPruning(criterion="movement"),
                   WeightPruning(criterion="random", layers={"one": 0.3, "two": None}),
                   WeightPruning(sparsity=0.6, layers={"one": 0.3})):
        assert WeightPruning.model_validate(config.model_dump(mode="json")) == config


def test_the_checkpoint_of_other_settings_is_not_taken() -> None:
    names = {GradualMask({"w": None}, WeightPruning(**changed)).name
             for changed in ({}, {"sparsity": 0.6}, {"end": 0.5}, {"criterion": "movement"})}
    assert len(names) == 4
    assert LabelLoss().hooks == ()


def at_once(**settings: Any) -> Any:
    return WeightPruning(schedule="one_shot", training=None, **settings)


def counted(program: Program) -> Any:
    return {name.removesuffix(".weight"): int(flags.sum()) for name, flags in zeros(program).items()}


def sizes(program: Program) -> Any:
    return {name.removesuffix(".weight"): flags.numel() for name, flags in zeros(program).items()}


@pytest.mark.parametrize("criterion", ["random", "magnitude"])
def test_a_layer_has_a_sparsity_of_its_own_and_the_others_stay_whole(net: Any,
                                                                     criterion: str) -> None:
    pruned = prune_weights(net, None, at_once(criterion=criterion, layers={"one": 0.3}))
    count = sizes(net)["one"]
    assert counted(pruned) == dict.fromkeys(LAYERS, 0) | {"one": round(0.3 * count)}
    assert pruned.sparsity == {"one.weight": round(0.3 * count) / count}


def test_the_others_follow_the_sparsity_where_one_is_given(net: Any) -> None:
    config = at_once(criterion="random", sparsity=0.5, scope="layer",
                     layers={"one": 0.25, "hea*": None, "two": 0.75})
    want = {"stem": 0.5, "one": 0.25, "two": 0.75, "head": 0}
    assert counted(prune_weights(net, None, config)) == {
        name: round(share * sizes(net)[name]) for name, share in want.items()}
    everywhere = counted(prune_weights(net, None, at_once(sparsity=0.5, layers={"one": 0.25})))
    others = [name for name in LAYERS if name != "one"]
    assert everywhere["one"] == round(0.25 * sizes(net)["one"])
    assert sum(everywhere[name] for name in others) == round(
        0.5 * sum(sizes(net)[name] for name in others))


def test_of_several_patterns_the_first_holds(net: Any) -> None:
    config = at_once(layers={"one": 0.25, "*": 0.5})
    assert counted(prune_weights(net, None, config)) == {
        name: round((0.25 if name == "one" else 0.5) * count)
        for name, count in sizes(net).items()}


def test_a_draw_is_the_seeds_and_not_of_the_values(net: Any) -> None:
    config = at_once(criterion="random", sparsity=0.5)
    first, again, other = (zeros(prune_weights(net, None, config, seed=seed))
                           for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    flat = torch.cat([value.abs().flatten() for name, value in net.state_dict().items()
                      if name in first])
    gone = flat[torch.cat([flags.flatten() for flags in first.values()])]
    assert float(gone.mean()) == pytest.approx(float(flat.mean()), rel=0.15)  # not the smallest


def test_a_name_that_matches_no_layer_is_refused_with_those_near(net: Any) -> None:
    with pytest.raises(UsageError, match=r"layers='hed' matches no layer; near names: head"):
        prune_weights(net, None, at_once(layers={"hed": 0.5}))


@pytest.mark.parametrize("criterion", ["random", "magnitude", "movement"])
def test_layers_are_honoured_gradually_and_zeros_last(net: Any, quadrant_task: Task,
                                                      criterion: str) -> None:
    config = WeightPruning(criterion=criterion, layers={"one": 0.3, "two": 0.6}, training=SHORT,
                           every=2)
    pruned = prune_weights(net, quadrant_task, config, seed=3)
    want = {"one.weight": 0.3, "two.weight": 0.6}
    state = pruned.state_dict()
    assert {name: int((state[name] == 0).sum()) for name in want} == {
        name: round(share * state[name].numel()) for name, share in want.items()}
    assert pruned.sparsity.keys() == want.keys()
    trained = fit(pruned, quadrant_task, SHORT)
    assert at_least({name: trained.state_dict()[name] == 0 for name in want},
                    {name: state[name] == 0 for name in want})


def test_the_draw_of_another_seed_is_another_checkpoint() -> None:
    config = WeightPruning(criterion="random")
    assert GradualMask({"w": None}, config, 0).name != GradualMask({"w": None}, config, 1).name


def test_a_recipe_says_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("weights: {criterion: random, layers: {conv1: 0.3, fc: null}}")
    weights = Recipe.load(path).weights
    assert weights == WeightPruning(criterion="random", layers={"conv1": 0.3, "fc": None})
    assert weights.goal == "30 % of conv1"
    (tmp_path / "again.yaml").write_text(Recipe.load(path).to_yaml())
    assert Recipe.load(tmp_path / "again.yaml").weights == weights
