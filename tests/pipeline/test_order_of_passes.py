"""Passes compose in every order that makes sense; the others are refused, saying what to do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from tests.programs import measure_accuracies
from torch import nn

import edgewright as ew
from edgewright.channels import apply_to
from edgewright.distill import make_objective
from edgewright.errors import UsageError
from edgewright.task import Task
from edgewright.training import Training

Pass = Callable[[ew.Program], ew.Program]
Chain = Callable[..., ew.Program]

BRIEF = Training(epochs=1, batch_size=32, lr=0.01, augment=False)
FLOAT = ("prune", "blocks", "weights", "fit", "exits")

REFUSED = {
    ("blocks", "blocks"): "no residual branch of this program can be removed",  # it has only one
    ("exits", "exits"): "has 1 early exits already; add all of them at once",
    ("quantize", "prune"): "a quantized program cannot be pruned; prune before quantizing",
    ("quantize", "blocks"): "blocks of a quantized program cannot be removed; remove them before",
    ("quantize", "weights"): "weights of a quantized program cannot be pruned; prune before",
    ("quantize", "fit"): "a quantized program cannot be trained; train before .*method='qat'",
    ("quantize", "exits"): "exits cannot be added to a quantized program; add them before quant",
    ("quantize", "quantize"): "already quantized; pass the program in floating point",
}


@pytest.fixture(scope="module")
def passes(quadrant_task: Task) -> dict[str, Pass]:
    task = quadrant_task
    return {
        "prune": lambda p: ew.prune(p, task, ew.ChannelPruning(ratio=0.3, criterion="magnitude")),
        "blocks": lambda p: ew.prune_blocks(p, task, ew.BlockPruning(count=1, samples=40)),
        "weights": lambda p: ew.prune_weights(p, task, ew.WeightPruning(pattern="2:4",
                                                                        training=BRIEF)),
        "fit": lambda p: ew.fit(p, task, BRIEF),
        "exits": lambda p: ew.add_exits(p, task, ew.EarlyExits(places=1, training=BRIEF)),
        "quantize": lambda p: ew.quantize(p, task, ew.Quantization(calibration_samples=64)),
    }


@pytest.fixture(scope="module")
def chain(trained_program: ew.Program, passes: dict[str, Pass]) -> Chain:
    """Runs passes one after the other; what begins alike is run once."""
    @cache
    def run(*names: str) -> ew.Program:
        if not names:
            return trained_program
        return passes[names[-1]](run(*names[:-1]))

    return run


def accuracy(program: ew.Program, task: Task) -> float:
    return measure_accuracies(program.module(), task.test)[-1]


@pytest.mark.parametrize("second", FLOAT)
@pytest.mark.parametrize("first", FLOAT)
def test_any_two_passes_can_precede_quantization(first: str, second: str, chain: Chain,
                                      quadrant_task: Task) -> None:
    if (first, second) in REFUSED:
        with pytest.raises(UsageError, match=REFUSED[first, second]):
            chain(first, second)
        return
    program = chain(first, second, "quantize")
    assert program.is_quantized
    assert program.exits == ("exits" in (first, second))
    assert accuracy(program, quadrant_task) > 0.95


@pytest.mark.parametrize("then", [*FLOAT, "quantize"])
def test_no_pass_can_follow_quantization(then: str, chain: Chain) -> None:
    with pytest.raises(UsageError, match=REFUSED["quantize", then]) as refusal:
        chain("quantize", then)
    assert "\n" not in str(refusal.value)


def test_all_passes_can_be_combined(chain: Chain, quadrant_task: Task) -> None:
    program = chain("prune", "blocks", "weights", "fit", "exits", "quantize")
    assert accuracy(program, quadrant_task) > 0.95
    assert program.costs().macs < 0.7 * chain().costs().macs


@pytest.mark.parametrize("config", [
    {}, {"weights": 4, "first_last_bits": 4}, {"method": ew.PTQ(rounding=ew.AdaRound(50))},
    {"method": ew.PTQ(equalize=True, correct_bias=True)}, {"method": ew.QAT(training=BRIEF)},
])
def test_zero_weights_stay_zero(config: dict[str, object], chain: Chain,
                                         quadrant_task: Task) -> None:
    sparse = chain("weights")
    assert sparse.sparsity
    scheme = ew.Quantization(calibration_samples=64, **config)
    integers = ew.quantize(sparse, quadrant_task, scheme).state_dict()
    for name in sparse.sparsity:
        zeros = sparse.state_dict()[name] == 0
        assert zeros.double().mean() >= 0.5
        assert integers[name].dtype == torch.int8
        assert (integers[name][zeros] == 0).all()


def test_a_quantized_teacher_can_be_used(chain: Chain, quadrant_task: Task) -> None:
    teacher = chain("quantize")
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = ew.fit(chain("prune"), quadrant_task, BRIEF, teacher=teacher)
    assert accuracy(student, quadrant_task) > 0.95
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_quantized_programs_learn_from_a_teacher(chain: Chain, quadrant_task: Task) -> None:
    scheme = ew.Quantization(weights=4, activations=4, method=ew.QAT(training=BRIEF), calibration_samples=64)
    program = ew.quantize(chain("exits", "prune"), quadrant_task, scheme,
                          objective=make_objective(chain()))
    assert accuracy(program, quadrant_task) > 0.95


def test_quantized_programs_cannot_be_applied_to_the_models_code(chain: Chain,
                                                         trained_net: nn.Module) -> None:
    with pytest.raises(UsageError, match="is quantized, which the model's own code cannot "
                                         "represent; apply the program from before that"):
        apply_to(chain("quantize"), copy.deepcopy(trained_net))
