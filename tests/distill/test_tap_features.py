from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright.distill import FeaturePair, FeatureStudent, tap_features
from edgewright.distill._tap_features import feature_shape, is_feature
from edgewright.program import Program


def node(program: Program, name: str) -> Any:
    return next(node for node in program.graph.nodes if node.name == name)


def test_features_come_first_and_the_outputs_stay(pyramid: Program) -> None:
    x = torch.randn(3, 1, 8, 8)
    module = tap_features(pyramid, ["relu_4", "relu"])
    deep, early, logits = module(x)
    assert (deep.shape, early.shape) == ((3, 8, 8, 8), (3, 8, 8, 8))
    torch.testing.assert_close(logits, pyramid.run(x))
    stem = pyramid.module()
    want = nn.functional.conv2d(x, stem.get_parameter("stem.weight"), stem.get_parameter("stem.bias"), padding=1).relu()
    torch.testing.assert_close(early, want)
    assert module.state_dict().keys() == pyramid.state_dict().keys()


class Several(nn.Module):
    """Returns its logits in some structure."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.body, self.head, self.form = nn.Linear(4, 6), nn.Linear(6, 3), form

    def forward(self, x: Tensor) -> Any:
        early = self.body(x).relu()
        late = self.head(early)
        return {"dict": {"early": early, "late": late}, "tuple": (early, late),
                "nested": {"both": (early, {"late": late})}}[self.form]


@pytest.mark.parametrize("form", ["dict", "tuple", "nested"])
def test_the_outputs_keep_their_structure(form: str) -> None:
    x = torch.randn(5, 4)
    program = Program.capture(Several(form), x[:2])
    feature, result = tap_features(program, ["relu"])(x)
    want = program.run(x)
    assert pytree.tree_structure(result) == pytree.tree_structure(want)
    torch.testing.assert_close(pytree.tree_leaves(result), pytree.tree_leaves(want))
    torch.testing.assert_close(feature, pytree.tree_leaves(want)[0])
    pairs = [FeaturePair("relu", "relu", (1, 6), (1, 6))]
    shown = FeatureStudent(program, pairs, projected=True)
    torch.testing.assert_close(shown.eval()(x), want)
    assert len(shown.train()(x)) == 2


def test_features_come_before_every_exit() -> None:
    x = torch.randn(5, 4)
    program = Program.capture(Several("tuple"), x[:2])
    staged = Program(program.graph_module, program.example_inputs, exits=1)
    _, early, late = tap_features(staged, ["relu"])(x)
    torch.testing.assert_close((early, late), program.run(x))
    shown = FeatureStudent(staged, [FeaturePair("relu", "relu", (1, 6), (1, 6))], projected=True)
    torch.testing.assert_close(shown.eval()(x), program.run(x))
    assert len(shown.train()(x)) == 3


def test_without_names_it_is_the_program_itself(pyramid: Program) -> None:
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(tap_features(pyramid, [])(x), pyramid.run(x))


def test_the_program_is_unchanged(pyramid: Program) -> None:
    before = str(pyramid.graph)
    module = tap_features(pyramid, ["relu"])
    with torch.no_grad():
        next(module.parameters()).zero_()
    assert str(pyramid.graph) == before
    assert bool(pyramid.state_dict()["stem.weight"].any())


def test_it_trains_in_training_mode(pyramid: Program) -> None:
    module = tap_features(pyramid, ["relu"]).train()
    before = module.state_dict()["stages.0.0.norm.running_mean"].clone()
    feature, _ = module(torch.randn(4, 1, 8, 8))
    feature.sum().backward()
    assert module.get_parameter("stem.weight").grad is not None
    assert not torch.equal(before, module.state_dict()["stages.0.0.norm.running_mean"])


def test_a_feature_keeps_its_values_if_overwritten_later() -> Any:
    def forward(self: Any, x: Any) -> Any:
        x = self.a(x)
        return self.b(x.relu_())

    program = Program.capture(Net(forward, a=nn.Linear(4, 4), b=nn.Linear(4, 2)),
                              torch.zeros(2, 4))
    x = torch.randn(5, 4)
    feature, logits = tap_features(program, ["linear"])(x)
    assert bool((feature < 0).any())
    torch.testing.assert_close(logits, program.run(x))


LAYOUTS = {
    "convolution": (Net(lambda m, x: m.b(m.a(x).relu()).mean((2, 3)),
                             a=nn.Conv2d(3, 5, 1), b=nn.Conv2d(5, 2, 1)),
                    (3, 4, 6), (1, 5, 4, 6), lambda t: t),
    "channels last": (Net(lambda m, x: m.b(m.a(x).relu()).mean((1, 2)),
                               a=nn.Linear(3, 5), b=nn.Linear(5, 2)),
                      (4, 6, 3), (1, 5, 4, 6), lambda t: t.permute(0, 3, 1, 2)),
    "last layer in front": (Net(lambda m, x: m.a(x).relu().mean((2, 3)), a=nn.Conv2d(3, 5, 1)),
                            (3, 4, 6), (1, 5, 4, 6), lambda t: t),
    "tokens": (Net(lambda m, x: m.b(m.a(x).relu()).mean(1), a=nn.Linear(3, 5),
                        b=nn.LayerNorm(5)), (6, 3), (1, 6, 5), lambda t: t),
    "a signal": (Net(lambda m, x: m.b(m.a(x).relu()).mean(2), a=nn.Conv1d(3, 5, 1),
                          b=nn.BatchNorm1d(5)), (3, 6), (1, 6, 5), lambda t: t.transpose(1, 2)),
    "vectors": (Net(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(3, 5), b=nn.Linear(5, 2)),
                (3,), (1, 5), lambda t: t),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_converted_to_that_of_features(layout: Any) -> None:
    model, shape, want, order = LAYOUTS[layout]
    program = Program.capture(model, torch.zeros(2, *shape))
    assert feature_shape(node(program, "relu")) == want
    x = torch.randn(2, *shape)
    feature = tap_features(program, ["relu"])(x)[0]
    assert feature.shape[1:] == want[1:]
    torch.testing.assert_close(feature, order(model.get_submodule("a")(x).relu()))


def test_features_are_floating_point_calls_of_few_dimensions(pyramid: Program) -> None:
    names = {one.name for one in pyramid.graph.nodes if is_feature(one)}
    assert {"relu", "linear", "mean"} <= names
    assert not names & {"x", "stem_weight", "output"}
