"""What trains a network best, per minute, after blocks were removed and the rest was fitted.

Blocks of a published CIFAR-10 network are removed, the remaining layers are fitted, and the result
is trained for the same number of epochs with each variant of the search's training. The variants
are to be chosen by the first half of the test images (the weights have seen all others); the second
half says what the choice is worth. An interrupted run goes on.

Example:
    python -m benchmarks.search.recovery --data DIR --models DIR --epochs 3
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor

from benchmarks.common.paths import RESNETS, RESULTS
from benchmarks.common.result_rows import keep, provenance, stored
from edgewright.distill import CompiledTeacher, Distillation, fit
from edgewright.program import Program
from edgewright.pruning import BlockPruning, prune_blocks
from edgewright.search import Search
from edgewright.task import Split, Task, load_model, load_task
from edgewright.training import Augmentation, Training, evaluate_module

_PACKAGES: Final = ("edgewright", "torch", "numpy")
_REMOVED: Final = {
    "resnet20": ("layer1.0", "layer2.1", "layer2.2"),
    "resnet56": tuple(f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(2, 8)),
}


@final
class Muon:
    """Muon (Jordan et al. 2024) for matrices and convolutions, SGD for the rest.

    Attributes:
        share: Its learning rate, as a share of that of SGD for the rest.
    """

    scale_invariant = True

    def __init__(self, share: float) -> None:
        self.share, self.name = share, f"muon {share:g}"

    def build(self, groups: Iterable[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        """Create the optimizer."""
        return _MuonSteps(groups, lr, self.share)


class _MuonSteps(torch.optim.Optimizer):
    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, share: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": 0.9})
        self._share = share

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of every parameter."""
        assert closure is None
        for group in self.param_groups:
            for tensor in group["params"]:
                if tensor.grad is not None:
                    self._step_one(tensor, tensor.grad, group)

    def _step_one(self, tensor: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        lr, momentum = group["lr"], group["momentum"]
        buffer = self.state[tensor].setdefault("momentum", torch.zeros_like(tensor))
        buffer.mul_(momentum).add_(gradient)
        update = gradient.add(buffer, alpha=momentum)
        tensor.mul_(1 - lr * group["weight_decay"])
        if tensor.ndim < 2:
            tensor.sub_(update, alpha=lr)
            return
        flat = _orthogonalize(update.reshape(len(update), -1))
        scale = tensor.norm() / max(1e-8, float(flat.norm()))
        tensor.sub_(flat.view_as(tensor), alpha=float(lr * self._share * scale))


def _orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    a, b, c = 3.4445, -4.7750, 2.0315
    found: Tensor = matrix / (matrix.norm() + 1e-7)
    if is_tall := matrix.shape[0] > matrix.shape[1]:
        found = found.T
    for _ in range(steps):
        square = found @ found.T
        found = a * found + (b * square + c * square @ square) @ found
    return found.T if is_tall else found


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        changes: Settings that differ from those of the search's training.
        distillation: The losses.
    """

    changes: dict[str, Any]
    distillation: Distillation = field(default_factory=Distillation)


VARIANTS: Final = {
    "lr 0.01": Variant({"lr": 0.01}),
    "lr 0.03": Variant({"lr": 0.03}),
    "lr 0.1": Variant({"lr": 0.1}),
    "lr 0.03, hints": Variant({"lr": 0.03}, Distillation(features="hints")),
    "muon 0.1": Variant({"lr": 0.1, "optimizer": Muon(0.1)}),
    "muon 0.3": Variant({"lr": 0.1, "optimizer": Muon(0.3)}),
    "lr 0.03, average": Variant({"lr": 0.03, "ema": 0.998}),
    "lr 0.03, teacher alone": Variant({"lr": 0.03}, Distillation(alpha=1.0)),
    "lr 0.03, logits regressed": Variant({"lr": 0.03}, Distillation(logits="mse", alpha=0.9)),
    "lr 0.03, mixup": Variant({"lr": 0.03, "augment": Augmentation(mixup=0.5)}),
    "lr 0.03, temperature 2": Variant({"lr": 0.03}, Distillation(temperature=2.0)),
    "lr 0.03, attention": Variant({"lr": 0.03}, Distillation(features="attention")),
    "lr 0.03, batches of 64": Variant({"lr": 0.015, "batch_size": 64}),
    "lr 0.03, batches of 256": Variant({"lr": 0.045, "batch_size": 256}),
    "lr 0.03, no decay": Variant({"lr": 0.03, "weight_decay": 0.0}),
    "lr 0.03, early peak": Variant({"lr": 0.03, "schedule": {"cosine": 0.3}}),
    "lr 0.003": Variant({"lr": 0.003}),
}


def main() -> None:
    """Train every variant and store its row."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of CIFAR-10's parquet files")
    parser.add_argument("--models", required=True, type=Path, help="folder of the weights")
    parser.add_argument("--model", choices=sorted(_REMOVED), default="resnet20")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--only", default="*", help="pattern of variants to train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS / "recovery.json")
    settings = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    task = load_task(f"cifar10:{settings.data}", normalize="imagenet", seed=settings.seed)
    model = load_model(f"{RESNETS}:{settings.model}",
                       settings.models / f"{settings.model}-cifar10.safetensors")
    program = Program.capture(model, task.train.example(2))
    fitted = _fit_without(program, _REMOVED[settings.model], task, settings.seed)
    teacher = CompiledTeacher(program)
    for name, variant in VARIANTS.items():
        key = f"{settings.model}, {settings.epochs} epochs, {name}, seed {settings.seed}"
        if fnmatchcase(name, settings.only) and key not in stored(settings.results):
            keep(settings.results, key, _train(variant, fitted, teacher, task, settings))


def _fit_without(program: Program, removed: tuple[str, ...], task: Task, seed: int) -> Program:
    config = BlockPruning(remove=removed, refit=True, refit_samples=Search().samples)
    return prune_blocks(program, task, config, seed=seed)


def _train(variant: Variant, fitted: Program, teacher: CompiledTeacher, task: Task,
           settings: argparse.Namespace) -> dict[str, Any]:
    training = Training.model_validate(
        {**dict(Search().training), "time": None, "epochs": settings.epochs, **variant.changes})
    since = time.process_time()
    trained = fit(fitted, task, training, teacher=teacher, distillation=variant.distillation,
                  seed=settings.seed)
    seconds = round(time.process_time() - since, 1)
    half = len(task.test) // 2
    order = range(len(task.test))
    return {**provenance(_PACKAGES, seed=settings.seed), "cpu_seconds": seconds,
            "before": _accuracy(fitted, task.test, task),
            "chosen_by": _accuracy(trained, task.test.select(order[:half]), task),
            "reported": _accuracy(trained, task.test.select(order[half:]), task),
            "validation": _accuracy(trained, task.val, task)}


def _accuracy(program: Program, split: Split, task: Task) -> float:
    return round(evaluate_module(program.module(), split, task.goal)[-1].value, 4)


if __name__ == "__main__":
    main()
