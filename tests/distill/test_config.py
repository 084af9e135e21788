from __future__ import annotations

import typing
from typing import Any

import pytest
import yaml

from edgewright.distill import FEATURE_LOSSES, LOGIT_LOSSES, Distillation
from edgewright.errors import UsageError


def options_of(name: str) -> Any:
    annotation = Distillation.model_fields[name].annotation
    return {option for part in (annotation, *typing.get_args(annotation))
            for option in typing.get_args(part) if isinstance(option, str)}


def test_the_config_knows_every_loss() -> None:
    assert options_of("logits") == set(LOGIT_LOSSES)
    assert options_of("features") == set(FEATURE_LOSSES)


def test_the_config_round_trips_through_yaml() -> None:
    text = "{logits: decoupled, nontarget_weight: 2, features: hints, pairs: [[relu, relu_3]]}"
    assert Distillation(**yaml.safe_load(text)) == Distillation(
        logits="decoupled", nontarget_weight=2.0, features="hints", pairs=(("relu", "relu_3"),))


@pytest.mark.parametrize(("wrong", "message"), [
    ({"temperature": 0}, "temperature: Input should be greater than 0, got 0"),
    ({"alpha": 1.1}, "alpha: Input should be less than or equal to 1, got 1.1"),
    ({"alpha": -0.1}, "alpha: Input should be greater than or equal to 0, got -0.1"),
    ({"target_weight": -1}, "target_weight: Input should be greater than or equal to 0, got -1"),
    ({"nontarget_weight": float("inf")}, "nontarget_weight: Input should be a finite number"),
    ({"feature_weight": 0}, "feature_weight: Input should be greater than 0, got 0"),
    ({"self_weight": -1}, "self_weight: Input should be greater than or equal to 0, got -1"),
    ({"logits": "kd"}, "logits: Input should be 'hinton', 'decoupled', 'standardized', 'mse' or "),
    ({"features": "all"}, "features: Input should be 'hints', 'attention', 'relational' or "),
    ({"pairs": (("a", "b"),)}, "pairs are given, but no features; set features='hints'"),
    ({"heat": 1}, "heat: unknown setting"),
])
def test_settings_out_of_range_raise(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Distillation(**wrong)
