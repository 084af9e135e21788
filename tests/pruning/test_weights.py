"""Weight pruning: schedules, patterns, and zeros that are kept up to the exported file."""

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
from edgewright.goals import Classification
from edgewright.graph import sparse_tensors
from edgewright.pipeline import Recipe
from edgewright.program import Program, fold_batch_norm
from edgewright.pruning import ChannelPruning, WeightPruning, prune, prune_weights
from edgewright.pruning._gradual_mask import GradualMask
from edgewright.quantization import QAT, Quantization, quantize
from edgewright.task import Task
from edgewright.training import GoalLoss, Step, Training

SHORT = Training(epochs=3, batch_size=32, lr=0.02, augment=False, compute="cpu")
ONCE = WeightPruning(sparsity=0.8, schedule="one_shot", training=None)
LAYERS = ("stem", "one", "two", "head")


@pytest.fixture(scope="module")
def net(trained_program: Program) -> Any:
    return trained_program


@pytest.fixture(scope="module")
def pruned_program(net: Any) -> Any:
    return prune_weights(net, None, ONCE)


def zero_flags(program: Program) -> Any:
    """Flags for the zeros of each layer's weight."""
    state = program.state_dict()
    return {f"{name}.weight": state[f"{name}.weight"] == 0 for name in LAYERS}


def fraction_of(flags: Any) -> Any:
    return float(torch.cat([f.flatten() for f in flags.values()]).double().mean())


def contains_all(flags: Any, of: Any) -> Any:
    """Whether ``flags`` is set wherever ``of`` is set."""
    return all(bool((flags[name] | ~of[name]).all()) for name in of)


def test_one_shot_masks_the_smallest_weights_of_all_layers(net: Any, pruned_program: Any) -> None:
    before, after = net.state_dict(), pruned_program.state_dict()
    names = [f"{name}.weight" for name in LAYERS]
    threshold = torch.cat([before[name].abs().flatten() for name in names]).quantile(0.8)
    for name in names:
        want = torch.where(before[name].abs() <= threshold, 0.0, before[name])
        assert torch.equal(after[name], want)
    assert all(torch.equal(after[k], before[k]) for k in before if k not in names)
    assert fraction_of(zero_flags(pruned_program)) == pytest.approx(0.8, abs=1e-3)
    assert pruned_program.sparsity.keys() == set(names)
    assert net.sparsity == {}
    assert fraction_of(zero_flags(net)) == 0


def test_layer_scope_prunes_every_layer_to_the_same_sparsity(net: Any) -> None:
    pruned = prune_weights(net, None, ONCE.replace(scope="layer"))
    for name, value in pruned.sparsity.items():
        assert value == pytest.approx(0.8, abs=1 / net.state_dict()[name].numel())


def test_pattern_applies_to_layers_that_are_divisible_into_blocks(net: Any) -> None:
    pruned = prune_weights(net, None, WeightPruning(pattern="2:4", schedule="one_shot",
                                                    training=None))
    assert pruned.sparsity == {"head.weight": 0.5, "one.weight": 0.5, "two.weight": 0.5}
    one = pruned.state_dict()["one.weight"]
    assert int((one.reshape(16, 4, 4, 9) != 0).sum(dim=2).max()) == 2


def test_ignored_layers_stay_dense_and_tied_weights_are_pruned_once() -> None:
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
def test_gradual_pruning_reaches_the_full_sparsity(net: Any, quadrant_task: Task, criterion: str,
                                                   pattern: str) -> None:
    sparsity = {"sparsity": 0.75} if pattern == "unstructured" else {}
    config = WeightPruning(pattern=pattern, criterion=criterion, training=SHORT, every=2,
                           **sparsity)
    pruned = prune_weights(net, quadrant_task, config)
    flags = {name: zero_flags(pruned)[name] for name in pruned.sparsity}
    assert fraction_of(flags) == pytest.approx(0.75, abs=2e-3)
    again = fit(pruned, quadrant_task, SHORT)
    assert contains_all({name: again.state_dict()[name] == 0 for name in flags}, of=flags)
    assert not torch.equal(again.state_dict()["one.weight"], pruned.state_dict()["one.weight"])


def test_schedule_is_cubic_and_ends_at_the_given_fraction() -> None:
    layer = nn.Linear(10, 10, bias=False)
    config = WeightPruning(sparsity=0.8, end=0.5, every=2)
    hook = GradualMask({"weight": None}, config)
    hook.start(layer)
    found = []
    with torch.no_grad():
        for index in range(20):
            layer.weight.add_(0.01)  # an optimizer that changes every weight
            step = Step(index, 20, 0.1)
            hook.after_step(step)
            found.append(int((layer.weight == 0).sum()))
            assert hook.is_settled(step) == (index >= 9)
    want = [round(100 * 0.8 * (1 - (1 - t / 10) ** 3)) for t in (2, 4, 6, 8, 10)]
    assert found == [0, *(n for count in want[:-1] for n in (count, count)), *[want[-1]] * 11]


def test_movement_keeps_weights_that_move_away_from_zero_and_unmasks_weights() -> None:
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[4.0, -3.0, 2.0, -1.0]]))
    hook = GradualMask({"weight": None}, WeightPruning(sparsity=0.5, criterion="movement", every=1,
                                                  scope="layer"))
    hook.start(layer)
    masks = []
    # A gradient opposite to the sign grows a weight. First the large two shrink, then the small.
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
        hook.after_step(Step(6, 10, 0.1))  # the last update, with the current scores
    assert layer.weight.tolist() == [[4.0, -3.0, 0.0, 0.0]]


class InterruptedRunError(Exception):
    pass


class StopInEpoch:
    """Interrupts a run in the epoch after ``epochs`` complete ones."""

    def __init__(self, epochs: Any) -> None:
        self.left = epochs

    def advance(self, samples: Any, loss: Any) -> None:
        if self.left == 0:
            raise InterruptedRunError

    def time_left(self, seconds: float) -> None:
        pass

    def epoch(self, record: Any) -> None:
        self.left -= 1

    def start(self, *arguments: Any) -> None:
        pass

    note = stop = start


@pytest.mark.parametrize("criterion", ["magnitude", "movement"])
@pytest.mark.parametrize("epochs", [1, 2])
def test_interrupted_run_ends_with_the_same_weights(net: Any, quadrant_task: Task, tmp_path: Path, criterion: str,
                                                    epochs: int) -> None:
    config = WeightPruning(sparsity=0.7, criterion=criterion, every=3, training=SHORT)
    uninterrupted = prune_weights(net, quadrant_task, config)
    path = tmp_path / "weights.ckpt"
    with pytest.raises(InterruptedRunError):
        prune_weights(net, quadrant_task, config, checkpoint=path,
                      progress=StopInEpoch(epochs))
    resumed = prune_weights(net, quadrant_task, config, checkpoint=path)
    torch.testing.assert_close(resumed.state_dict(), uninterrupted.state_dict(), rtol=0, atol=0)


def test_zeros_are_kept_by_every_later_pass(net: Any, pruned_program: Any, quadrant_task: Task,
                                            tmp_path: Path) -> None:
    before = zero_flags(pruned_program)
    with_exits = add_exits(pruned_program, quadrant_task, EarlyExits(places=1, training=SHORT))
    assert contains_all(zero_flags(with_exits), of=before)
    pruned_program.save(tmp_path / "p.pt2")
    loaded = Program.load(tmp_path / "p.pt2")
    assert loaded.sparsity == pruned_program.sparsity
    adamw = SHORT.replace(optimizer="adamw", clip_norm=1.0)
    assert contains_all(zero_flags(fit(loaded, quadrant_task, adamw)), of=before)
    assert contains_all(zero_flags(fold_batch_norm(loaded)), of=before)
    sliced = prune(pruned_program, None, ChannelPruning(criterion="magnitude", ratio=0.3))
    assert sliced.sparsity.keys() == pruned_program.sparsity.keys()
    assert contains_all(zero_flags(fit(sliced, quadrant_task, SHORT)), of=zero_flags(sliced))
    assert sparse_tensors(pruned_program.with_state(net.state_dict()).graph_module)


@pytest.mark.parametrize("method", ["ptq", QAT(training=SHORT)], ids=["ptq", "qat"])
def test_quantized_file_contains_the_zeros(pruned_program: Any, quadrant_task: Task, method: Any) -> None:
    before = zero_flags(pruned_program)
    tuned = fit(pruned_program, quadrant_task, SHORT)
    config = Quantization(method=method, calibration_samples=64)
    quantized = quantize(tuned, quadrant_task, config)
    assert contains_all(zero_flags(quantized), of=before)
    model = onnx.load_from_string(to_onnx(quantized))
    stored = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    weights = [array for array in stored if array.dtype == np.int8 and array.ndim > 1]
    assert sum(array.size for array in weights) == sum(f.numel() for f in before.values())
    assert sum(int((array == 0).sum()) for array in weights) >= sum(
        int(f.sum()) for f in before.values())


def test_float_file_contains_the_zeros(pruned_program: Any) -> None:
    model = onnx.load_from_string(to_onnx(pruned_program))
    stored = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    count = sum(int((array.view(np.uint32) == 0).sum()) for array in stored
                if array.dtype == np.float32 and array.ndim > 1)
    assert count == sum(int(f.sum()) for f in zero_flags(pruned_program).values())


def test_errors_do_not_change_the_program(net: Any, mixed_task: Task,
                                          quadrant_task: Task) -> None:
    before = net.state_dict()
    with pytest.raises(UsageError, match="needs data; give a task, or use schedule='one_shot' and "
                                         "training=None"):
        prune_weights(net)
    with pytest.raises(UsageError, match=r"ignore='x' matches no layer; layers: head, one, stem, two"):
        prune_weights(net, None, ONCE.replace(ignore=("x",)))
    with pytest.raises(UsageError, match="no weight to prune: no convolution or linear layer "
                                         "remains whose input channels are a multiple of 512"):
        prune_weights(net, None, WeightPruning(pattern="2:512", schedule="one_shot",
                                               training=None))
    with pytest.raises(UsageError, match="a quantized program cannot be pruned; prune before"):
        prune_weights(quantize(net, quadrant_task), None, ONCE)
    assert all(torch.equal(net.state_dict()[name], before[name]) for name in before)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"pattern": "2:2"}, "pattern='2:2' is not valid; use 'unstructured', or N:M"),
    ({"pattern": "half"}, "pattern='half' is not valid"),
    ({"pattern": "2:4", "sparsity": 0.6}, "pattern='2:4' has a sparsity of 0.5, not "
                                          "sparsity=0.6; omit sparsity"),
    ({"criterion": "movement", "schedule": "one_shot"}, "criterion='movement' needs the "),
    ({"training": None}, "schedule='gradual' prunes during training; give training"),
    ({"sparsity": 1.0}, "WeightPruning: sparsity: Input should be less than 1, got 1.0"),
    ({"end": 0}, "WeightPruning: end: Input should be greater than 0, got 0"),
    ({"every": 0}, "WeightPruning: every: Input should be greater than or equal to 1, got 0"),
    ({"layers": {"one": 1.0}}, "layers: the sparsity of 'one' is 1; expected a fraction above 0 "
                               "and below 1, or None to keep the layer dense"),
    ({"layers": {"one": 0}}, "layers: the sparsity of 'one' is 0; expected a fraction"),
    ({"layers": {"one": 0.5}, "pattern": "2:4"}, "layers=['one'] sets sparsities per layer, but "
                                                 "pattern='2:4' has one sparsity for all layers"),
    ({"layers": {"one": None}}, "sparsity=None prunes only the layers in layers, and none of "),
    ({"sparsity": None}, "sparsity=None prunes only the layers in layers, and none of these"),
    ({"scope": "all"}, "WeightPruning: scope: Input should be 'global' or 'layer'"),
])
def test_invalid_settings_are_rejected(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        WeightPruning(**wrong)


def test_settings_survive_a_json_round_trip() -> None:
    for config in (ONCE, WeightPruning(pattern="1:4"), WeightPruning(criterion="movement"),
                   WeightPruning(criterion="random", layers={"one": 0.3, "two": None}),
                   WeightPruning(sparsity=0.6, layers={"one": 0.3})):
        assert WeightPruning.model_validate(config.model_dump(mode="json")) == config


def test_checkpoint_name_depends_on_the_settings() -> None:
    names = {GradualMask({"w": None}, WeightPruning(**changed)).name
             for changed in ({}, {"sparsity": 0.6}, {"end": 0.5}, {"criterion": "movement"})}
    assert len(names) == 4
    assert GoalLoss(Classification()).hooks == ()


def one_shot(**settings: Any) -> Any:
    return WeightPruning(schedule="one_shot", training=None, **settings)


def zero_counts(program: Program) -> Any:
    return {name.removesuffix(".weight"): int(flags.sum()) for name, flags in zero_flags(program).items()}


def weight_counts(program: Program) -> Any:
    return {name.removesuffix(".weight"): flags.numel() for name, flags in zero_flags(program).items()}


@pytest.mark.parametrize("criterion", ["random", "magnitude"])
def test_layers_alone_leave_the_other_layers_dense(net: Any,
                                                   criterion: str) -> None:
    pruned = prune_weights(net, None, one_shot(criterion=criterion, layers={"one": 0.3}))
    count = weight_counts(net)["one"]
    assert zero_counts(pruned) == dict.fromkeys(LAYERS, 0) | {"one": round(0.3 * count)}
    assert pruned.sparsity == {"one.weight": round(0.3 * count) / count}


def test_other_layers_follow_the_given_sparsity(net: Any) -> None:
    config = one_shot(criterion="random", sparsity=0.5, scope="layer",
                     layers={"one": 0.25, "hea*": None, "two": 0.75})
    want = {"stem": 0.5, "one": 0.25, "two": 0.75, "head": 0}
    assert zero_counts(prune_weights(net, None, config)) == {
        name: round(fraction * weight_counts(net)[name]) for name, fraction in want.items()}
    everywhere = zero_counts(prune_weights(net, None, one_shot(sparsity=0.5, layers={"one": 0.25})))
    others = [name for name in LAYERS if name != "one"]
    assert everywhere["one"] == round(0.25 * weight_counts(net)["one"])
    assert sum(everywhere[name] for name in others) == round(
        0.5 * sum(weight_counts(net)[name] for name in others))


def test_first_matching_pattern_applies(net: Any) -> None:
    config = one_shot(layers={"one": 0.25, "*": 0.5})
    assert zero_counts(prune_weights(net, None, config)) == {
        name: round((0.25 if name == "one" else 0.5) * count)
        for name, count in weight_counts(net).items()}


def test_random_masks_depend_on_the_seed_and_not_on_the_values(net: Any) -> None:
    config = one_shot(criterion="random", sparsity=0.5)
    first, again, other = (zero_flags(prune_weights(net, None, config, seed=seed))
                           for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    flat = torch.cat([value.abs().flatten() for name, value in net.state_dict().items()
                      if name in first])
    masked = flat[torch.cat([flags.flatten() for flags in first.values()])]
    assert float(masked.mean()) == pytest.approx(float(flat.mean()), rel=0.15)  # not the smallest


def test_unknown_layer_is_rejected_with_similar_names(net: Any) -> None:
    with pytest.raises(UsageError, match=r"layers='hed' matches no layer; similar names: head"):
        prune_weights(net, None, one_shot(layers={"hed": 0.5}))


@pytest.mark.parametrize("criterion", ["random", "magnitude", "movement"])
def test_gradual_pruning_reaches_sparsities_per_layer_and_zeros_are_kept(net: Any, quadrant_task: Task,
                                                                         criterion: str) -> None:
    config = WeightPruning(criterion=criterion, layers={"one": 0.3, "two": 0.6}, training=SHORT,
                           every=2)
    pruned = prune_weights(net, quadrant_task, config, seed=3)
    want = {"one.weight": 0.3, "two.weight": 0.6}
    state = pruned.state_dict()
    assert {name: int((state[name] == 0).sum()) for name in want} == {
        name: round(fraction * state[name].numel()) for name, fraction in want.items()}
    assert pruned.sparsity.keys() == want.keys()
    trained = fit(pruned, quadrant_task, SHORT)
    assert contains_all({name: trained.state_dict()[name] == 0 for name in want},
                    {name: state[name] == 0 for name in want})


def test_checkpoint_name_depends_on_the_seed_of_random_scores() -> None:
    config = WeightPruning(criterion="random")
    assert GradualMask({"w": None}, config, 0).name != GradualMask({"w": None}, config, 1).name


def test_recipe_with_layers_survives_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("weights: {criterion: random, layers: {conv1: 0.3, fc: null}}")
    weights = Recipe.load(path).weights
    assert weights == WeightPruning(criterion="random", layers={"conv1": 0.3, "fc": None})
    assert weights.goal == "30 % of conv1"
    (tmp_path / "again.yaml").write_text(Recipe.load(path).to_yaml())
    assert Recipe.load(tmp_path / "again.yaml").weights == weights
