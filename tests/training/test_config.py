from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgewright.errors import UsageError
from edgewright.training import (
    Compute,
    ConstantSchedule,
    CosineSchedule,
    EpochRecord,
    OneCycleSchedule,
    PlateauSchedule,
    Score,
    Training,
)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"epochs": 0}, "Training: epochs: Input should be greater than or equal to 1, got 0"),
    ({"lr": 0}, "lr: Input should be greater than 0, got 0"),
    ({"lr": math.nan}, "lr: Input should be a finite number"),
    ({"optimizer": "lion"}, "optimizer: Input should be 'sgd' or 'adamw', or your own object "
     "of type OptimizerConfig, given in Python, got 'lion'"),
    ({"optimizer": {"sgd": {"momentum": 1.0}}}, "optimizer.sgd.momentum: Input should be less than 1"),
    ({"optimizer": {"adamw": {"momentum": 0.9}}}, "adamw.momentum: unknown setting; known: betas"),
    ({"schedule": {"cosine": {"wait_epochs": 2}}}, "wait_epochs: unknown setting; did you mean"),
    ({"compute": {"precision": "int8"}}, "compute.precision: .* got 'int8'"),
    ({"clip_norm": -1}, "clip_norm: Input should be greater than 0"),
    ({"ema": 1.0}, "ema: Input should be less than 1"),
    ({"augment": {"mixup": -1}}, "augment.mixup: Input should be greater than or equal to 0"),
    ({"accumulate": 0, "patience": 0}, "(?s)accumulate: .* or equal to 1, got 0.*patience: "),
    ({"compute": {"devices": 0}}, "devices: Input should be greater than or equal to 1, got 0"),
    ({"epoch": 3, "batch_size": 0}, "(?s)batch_size: .*Training: epoch: unknown setting; did you mean epochs"),
])
def test_invalid_settings_raise_with_name_value_and_range(arguments: dict[str, Any],
                                                          message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Training(**arguments)


def test_a_config_is_frozen_and_round_trips() -> None:
    config = Training(epochs=3, schedule="one_cycle", clip_norm=1)
    assert Training.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(ValidationError, match="frozen"):
        config.epochs = 4  # type: ignore[misc]


def test_auto_precision_is_float32_on_cpu_and_bfloat16_on_cuda_if_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Compute(accelerator="cpu").resolve_precision() == "32-true"
    assert Compute(precision="16-mixed").resolve_precision() == "16-mixed"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for supported, expected in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda answer=supported: answer)
        assert Compute().resolve_precision() == expected
        assert Compute(accelerator="cpu").resolve_precision() == "32-true"


def rates(steps: int = 10, **arguments: Any) -> Any:
    config = Training(lr=1.0, **arguments)
    assert config.epochs is not None
    return [config.learning_rate(step, steps) for step in range(config.epochs * steps)]


def test_cosine_decays_from_the_peak_to_zero() -> None:
    found = rates(epochs=4)
    expected = [(1 + math.cos(math.pi * step / 40)) / 2 for step in range(40)]
    assert found == pytest.approx(expected)


def test_warmup_rises_linearly_to_the_peak() -> None:
    found = rates(epochs=4, schedule=CosineSchedule(warmup_epochs=1))
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert found[10:] == pytest.approx([(1 + math.cos(math.pi * s / 30)) / 2 for s in range(30)])
    assert rates(epochs=2, schedule=ConstantSchedule(warmup_epochs=0.25))[:4] == [0.4, 0.8, 1.0, 1.0]
    assert max(rates(epochs=1, schedule=CosineSchedule(warmup_epochs=3))) == pytest.approx(1 / 3)


def test_one_cycle_rises_for_30_percent_and_ends_near_zero() -> None:
    cycle = rates(epochs=10, schedule="one_cycle")
    assert cycle[0] == pytest.approx(1 / 25)
    assert cycle.index(max(cycle)) == 30
    assert max(cycle) == pytest.approx(1)
    assert cycle[30:] == sorted(cycle[30:], reverse=True)
    assert cycle[-1] < 0.01


def test_constant_is_constant() -> None:
    assert set(rates(epochs=2, schedule="constant")) == {1.0}


def test_rise_epochs_sets_the_length_of_the_one_cycle_warmup() -> None:
    cycle = rates(epochs=10, schedule=OneCycleSchedule(rise_epochs=5))
    assert cycle[0] == pytest.approx(1 / 25)
    assert cycle.index(max(cycle)) == 50
    assert max(rates(epochs=2, schedule=OneCycleSchedule(rise_epochs=4))) < 1


@given(accuracies=st.lists(st.integers(0, 5), max_size=30), wait=st.integers(1, 4))
def test_plateau_matches_torch(accuracies: Any, wait: Any) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.1, patience=wait - 1, threshold=0, eps=0)
    config = Training(epochs=40, lr=0.5, schedule=PlateauSchedule(wait_epochs=wait))
    history: tuple[EpochRecord, ...] = ()
    for epoch, accuracy in enumerate(accuracies):
        history = (*history, EpochRecord(epoch + 1, 1.0, Score("accuracy", accuracy / 5), 0.5, 1.0))
        reference.step(accuracy / 5)
        assert config.learning_rate(7 * (epoch + 1), 7, history) == pytest.approx(
            optimizer.param_groups[0]["lr"], rel=1e-9)


def test_plateau_warms_up_and_waits_for_hooks_to_settle() -> None:
    config = Training(epochs=9, lr=1.0, schedule=PlateauSchedule(wait_epochs=2, warmup_epochs=1))
    assert [config.learning_rate(step, 4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    falling = tuple(EpochRecord(n + 1, 1.0, Score("accuracy", 0.9 - n / 10), 1.0, 1.0,
                                settled=False)
                    for n in range(5))
    assert config.learning_rate(20, 4, falling) == 1.0
    settled = tuple(replace(record, settled=True) for record in falling)
    assert config.learning_rate(20, 4, settled) == pytest.approx(0.01)
