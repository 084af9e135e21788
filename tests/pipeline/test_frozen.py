"""What requires no gradient in the model is moved by no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.distill import initialize, make_student
from edgewright.errors import UsageError
from edgewright.exits import JointTraining
from edgewright.program import fold_batch_norm
from edgewright.pruning import StructureRegularization, regularize

TRAINING = ew.Training(epochs=2, batch_size=8, lr=0.05, weight_decay=0.1, compute="cpu")


class Model(nn.Module):
    """A frozen backbone with a batch norm, a fixed kernel as detection heads have, a free head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 16)
        self.norm = nn.BatchNorm1d(16)
        self.bins = nn.Linear(16, 16, bias=False)
        self.head = nn.Linear(16, 3)
        self.bins.weight.data = torch.arange(256.0).reshape(16, 16) / 256
        for part in (self.stem, self.norm, self.bins):
            part.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bins(torch.relu(self.norm(self.stem(x)))))


@pytest.fixture(scope="module")
def task() -> Any:
    torch.manual_seed(0)
    x, y = torch.randn(64, 8), torch.arange(64) % 3
    return ew.Task((x, y), (x[:6], y[:6]), (x[6:14], y[6:14]))


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return Model().eval()


@pytest.fixture(scope="module")
def program(model: Any) -> Any:
    return ew.Program.capture(model, torch.zeros(1, 8))


def moved(before: Any, after: Any, names: tuple[str, ...] = ("stem.weight", "stem.bias", "norm.weight", "norm.bias",
                                "bins.weight")) -> Any:
    old, new = before.state_dict(), after.state_dict()
    return [name for name in names if not torch.equal(old[name], new[name])]


PASSES = {
    "labels": lambda p, t: ew.fit(p, t, TRAINING),
    "average": lambda p, t: ew.fit(p, t, TRAINING.model_copy(update={"ema": 0.9})),
    "adamw": lambda p, t: ew.fit(p, t, TRAINING.model_copy(update={"optimizer": "adamw"})),
    "teacher": lambda p, t: ew.fit(p, t, TRAINING, teacher=p),
    "features": lambda p, t: ew.fit(p, t, TRAINING, teacher=p,
                                    distillation=ew.Distillation(features="hints")),
    "exits": lambda p, t: ew.add_exits(p, t, ew.EarlyExits(places=1, training=TRAINING)),
    "balanced exits": lambda p, t: ew.add_exits(p, t, ew.EarlyExits(
        places=1, training=JointTraining(settings=TRAINING))),
    "growing": lambda p, t: regularize(p, t, StructureRegularization(training=TRAINING)),
    "lasso": lambda p, t: regularize(p, t, StructureRegularization(
        method="group_lasso", strength=0.1, training=TRAINING)),
}


@pytest.mark.parametrize("name", PASSES)
def test_training_changes_the_other_parameters(program: Any, task: Any, name: Any) -> None:
    result = PASSES[name](program, task)
    assert moved(program, result) == []
    assert moved(program, result, ("head.weight",)) == ["head.weight"]


def test_a_frozen_norms_statistics_are_updated_as_in_torch(program: Any, task: Any) -> None:
    assert moved(program, ew.fit(program, task, TRAINING), ("norm.running_mean",))


def test_saved_and_derived_programs_stay_frozen(program: Any, task: Any, tmp_path: Path) -> None:
    program.save(tmp_path / "p.pt2")
    loaded = ew.Program.load(tmp_path / "p.pt2")
    once = ew.fit(loaded, task, TRAINING)
    assert moved(program, ew.fit(once, task, TRAINING)) == []


def test_a_pruned_frozen_layer_stays_frozen(program: Any, task: Any) -> None:
    sliced = ew.prune(program, task, ew.ChannelPruning(
        ratio=0.5, target="channels", criterion="taylor", round_to=1, ignore=("bins",)))
    assert sliced.state_dict()["stem.weight"].shape[0] < 16
    assert moved(sliced, ew.fit(sliced, task, TRAINING)) == []


def test_a_gradual_mask_zeroes_frozen_weights_without_training_them(program: Any,
                                                                    task: Any) -> None:
    config = ew.WeightPruning(sparsity=0.5, training=TRAINING)
    result = ew.prune_weights(program, task, config).state_dict()
    for name in ("stem.weight", "bins.weight"):
        old = program.state_dict()[name]
        assert torch.equal(result[name], torch.where(result[name] == 0, 0.0, old))
        assert bool((result[name] == 0).any())


def test_movement_pruning_of_frozen_weights_raises(program: Any, task: Any) -> None:
    config = ew.WeightPruning(criterion="movement", training=TRAINING)
    with pytest.raises(UsageError, match=r"stem\.weight, bins\.weight are frozen \(requires_grad="
                                         r"False\); add them to ignore"):
        ew.prune_weights(program, task, config)


def test_qat_learns_steps_for_frozen_weights(program: Any, task: Any) -> None:
    config = ew.Quantization(method=ew.QAT(training=TRAINING), first_last_bits=None)
    result = ew.quantize(program, task, config).state_dict()
    stored = result["bins.weight"].float() * result["bins.weight_scale"][:, None]
    weight = program.state_dict()["bins.weight"]
    error = (stored - weight).abs()
    assert bool((error <= result["bins.weight_scale"][:, None] * 0.51).all())


def test_a_folded_weight_is_frozen_if_both_were(program: Any, task: Any) -> None:
    folded = fold_batch_norm(program)
    assert moved(folded, ew.fit(folded, task, TRAINING), ("stem.weight", "stem.bias")) == []
    free = nn.Sequential(nn.Linear(4, 4).requires_grad_(False), nn.BatchNorm1d(4)).eval()
    norm = fold_batch_norm(ew.Program.capture(free, torch.zeros(1, 4)))
    assert all(value.requires_grad for value in norm.module().parameters())


def test_a_student_keeps_frozen_weights(program: Any) -> None:
    fresh = initialize(program, seed=5)
    assert moved(program, fresh) == []
    assert moved(program, fresh, ("head.weight",))
    thin = make_student(program, 0.5, seed=5, ignore=("bins",)).state_dict()
    kept = [row for row in thin["stem.weight"] if any(map(row.equal, program.state_dict()[
        "stem.weight"]))]
    assert len(kept) == len(thin["stem.weight"]) < 16


def test_a_kernel_in_a_buffer_is_not_reinitialized() -> None:
    class Blur(nn.Module):
        kernel: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kernel", torch.full((1, 1, 3), 1 / 3))
            self.head = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(nn.functional.conv1d(x, self.kernel).flatten(1))

    program = ew.Program.capture(Blur().eval(), torch.zeros(1, 1, 8))
    fresh = initialize(program)
    assert moved(program, fresh, ("kernel", "head.weight")) == ["head.weight"]


def test_a_fully_frozen_model_raises_before_anything_is_done(task: Any, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).requires_grad_(False)
    frozen = ew.Program.capture(model, torch.zeros(1, 8))
    message = r"there is nothing to train: call requires_grad_\(True\) on the parameters to train"
    with pytest.raises(UsageError, match=message):
        ew.fit(frozen, task, TRAINING)
    with pytest.raises(UsageError, match=message):
        ew.fit(frozen, task, TRAINING, teacher=frozen)
    with pytest.raises(UsageError, match=message):
        ew.compress(model, task, recipe="balanced", out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    assert ew.quantize(frozen, task).is_quantized
