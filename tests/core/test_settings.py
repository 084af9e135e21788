
from __future__ import annotations

import ast
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

import edgewright
from edgewright.core import (
    Budget,
    ExitRule,
    Figures,
    Limit,
    Measurement,
    OperatingPoint,
    Preprocessing,
    Value,
)
from edgewright.errors import SettingsError, UsageError
from edgewright.exits import EarlyExits
from edgewright.pipeline import Recipe
from edgewright.pruning import BlockPruning, ChannelPruning, StructureRegularization, WeightPruning
from edgewright.quantization import MixedPrecision, Precision, Quantization
from edgewright.training import Training

SOURCES = pathlib.Path(edgewright.__file__).parent
POINT = OperatingPoint(name="default", path=(0, 1), rules=(ExitRule(threshold=0.9),))
VALUES = [
    Training(epochs=3), Precision(weights=4), BlockPruning(count=2), ChannelPruning(),
    Quantization(weights=4, layers={"a": Precision(weights=2), "b": None}), EarlyExits(places=2),
    MixedPrecision(size="100 kB", weights=(8, None)), MixedPrecision(size=1e22),
    WeightPruning(pattern="2:4"), WeightPruning(sparsity=0.7),
    StructureRegularization(channels=ChannelPruning(ratio=0.3)),
    Budget(size="30 %", ram="64 KiB", latency="2 us", macs="30 M", energy="1 mJ", max_drop="1 %"),
    Limit(value=0.3, relative=True), POINT, ExitRule(threshold=0.5, gate=(0.0, 1.0, 2.0, 3.0)),
    Figures.of(Measurement(name="macs", value=3, kind="modelled")),
    Preprocessing(channels=1, height=2, width=3, mean=(0.5,), std=(0.1,)),
    *map(Recipe.by_name, ("fast", "balanced", "thorough")),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_replaced_by_its_own_fields_is_the_same(value: Any) -> None:
    fields = {name: getattr(value, name) for name in type(value).model_fields}
    assert value.replace() == value
    assert value.replace(**fields) == value
    assert value.replace().model_fields_set == value.model_fields_set


@pytest.mark.parametrize("change", [
    lambda value, fields: value.replace(**fields),
    lambda value, fields: value.model_copy(update=fields),
    lambda value, fields: value.__replace__(**fields),
], ids=["replace", "model_copy", "copy.replace"])
@pytest.mark.parametrize(("value", "fields", "error", "message"), [
    (Quantization(), {"weights": 17}, UsageError, "quantization to 17 bits is not supported"),
    (Quantization(), {"weigths": 4}, UsageError,
     "Quantization has no field 'weigths'; did you mean weights?"),
    (Quantization(), {"layers": {"a": {"weights": 17}}}, UsageError, "Quantization: layers.a.weights: .* got 17"),
    (Training(), {"epochs": 0}, UsageError, "Training: epochs: .* got 0"),
    (BlockPruning(count=2), {"count": None}, UsageError, "BlockPruning needs a goal"),
    (EarlyExits(), {"places": ("a", "a")}, UsageError, "places: it has duplicates: a, a"),
    (Budget(accuracy=0.9), {"metrics": {"accuracy": ">= 0.8"}}, UsageError,
     "bounds the accuracy twice"),
    (Budget(), {"size": "100 parsec"}, UsageError, "unknown unit 'parsec'"),
    (Budget(), {"drop": "1 %"}, UsageError, "Budget has no field 'drop'; did you mean max_drop?"),
    (Budget(), {"size": {"value": float("nan")}}, UsageError, "Budget: size.value: .*finite"),
    (Limit(value=1), {"value": -1}, ValidationError, "greater than or equal to 0"),
    (POINT, {"path": (0, 1, 2)}, ValidationError, "1 rules for a path of 3 segments"),
    (POINT, {"zzz": 1}, UsageError, "OperatingPoint has no field 'zzz'; known: name, path, policy"),
    (ExitRule(threshold=0.5), {"temperature": 0}, ValidationError, "greater than 0"),
    (Preprocessing(channels=1, height=2, width=3, mean=(0.5,), std=(0.1,)), {"channels": 3},
     UsageError, "3 channels, 1 means"),
])
def test_a_changed_value_is_checked_as_a_new_one_is(change: Callable[..., Any], value: Any,
                                                    fields: dict[str, Any], error: Any,
                                                    message: str) -> None:
    with pytest.raises(error, match=message):
        change(value, fields)


def test_all_faults_are_listed_at_once_with_the_nearest_names() -> None:
    with pytest.raises(SettingsError) as caught:
        Recipe(prun={}, prune={"ration": 0.3, "criterion": "tailor"},  # type: ignore[call-arg]
               recover={"epochs": 0, "optimizer": {"adamw": {"betta": 1}}},
               quantize={"weights": 5})
    assert [fault.path for fault in caught.value.faults] == [
        ("prune", "criterion"), ("prune", "ration"), ("recover", "epochs"),
        ("recover", "optimizer", "adamw", "betta"), ("quantize", "weights"), ("prun",)]
    lines = str(caught.value).splitlines()
    assert lines[1:4] == [
        "Recipe: prune.ration: unknown setting; did you mean ratio?",
        "Recipe: recover.epochs: Input should be greater than or equal to 1, got 0",
        "Recipe: recover.optimizer.adamw.betta: unknown setting; did you mean betas?"]
    assert lines[0].endswith("got 'tailor'; did you mean taylor?")
    assert lines[4].startswith("Recipe: quantize.weights: quantization to 5 bits is not supported")
    assert lines[5] == "Recipe: prun: unknown setting; did you mean prune?"


def test_a_value_that_has_faulty_settings_is_no_valid_value() -> None:
    class Holder(Value):
        training: Training

    with pytest.raises(ValidationError, match="epochs: Input should be greater"):
        Holder.model_validate({"training": {"epochs": 0}})


def test_what_a_pattern_says_goes_with_the_pattern() -> None:
    sparse = WeightPruning(pattern="2:4").replace(pattern="1:4")
    assert sparse.sparsity == 0.75
    assert sparse.replace(pattern="unstructured").sparsity == WeightPruning().sparsity
    assert WeightPruning(sparsity=0.3).replace(criterion="magnitude").sparsity == 0.3


def test_a_copy_without_changes_is_the_same_value() -> None:
    assert POINT.model_copy() == POINT
    assert POINT.model_copy(deep=True) == POINT


def test_no_source_changes_a_value_unchecked() -> None:
    """`replace` is the one way; `model_construct` and object.__setattr__ go round it, too."""
    found = [f"{path.relative_to(SOURCES)}:{node.lineno}"
             for path in SOURCES.rglob("*.py")
             for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.Attribute) and node.attr in {"model_copy", "model_construct"}
             and not isinstance(node.value, ast.Call)]
    assert found == []


def test_every_model_of_the_product_can_be_replaced() -> None:
    """Messages between an agent and its client aside, which take fields they do not know."""
    bare = [path.name for path in SOURCES.rglob("*.py")
            if "(BaseModel)" in path.read_text(encoding="utf-8")]
    assert sorted(bare) == ["_settings.py", "_wire.py"]
    assert issubclass(Budget, Value)
