"""What candidates are compared by if the validation samples flatter them."""

from __future__ import annotations

import pytest
import torch

import edgewright as ew
from edgewright.core import Measurement
from edgewright.pipeline import make_bundle
from edgewright.program import Program
from edgewright.search._judge import AgreementJudge, can_mix, is_flattered
from edgewright.task import Task


def share(value: float, samples: int, name: str = "accuracy") -> Measurement:
    return Measurement(name=name, value=value, kind="measured", samples=samples)


@pytest.mark.parametrize(("val", "test", "flattered"), [
    (share(0.996, 5_000), share(0.917, 10_000), True),
    (share(0.93, 300), share(0.91, 300), False),
    (share(0.90, 5_000), share(0.92, 10_000), False),
    (share(1.0, 20), share(1.0, 20), False),
    (share(3.0, 500, "mae"), share(1.0, 500, "mae"), False),
    (None, share(0.9, 10), False)])
def test_only_what_chance_does_not_explain_counts(val: Measurement | None, test: Measurement,
                                                  flattered: bool) -> None:
    assert is_flattered(val, test) == flattered


def test_a_file_agrees_with_itself_and_less_with_a_worse_one(
        trained_program: Program, quadrant_task: Task, tmp_path: object) -> None:
    def session(program: Program, name: str) -> ew.Session:
        path = f"{tmp_path}/{name}.edge"
        make_bundle(program, path)
        return ew.load(path)

    torch.manual_seed(0)
    worse = trained_program.with_state({
        name: value + 0.3 * value.std() * torch.randn_like(value)
        if value.is_floating_point() and value.ndim > 1 else value
        for name, value in trained_program.state_dict().items()})
    original = session(trained_program, "original")
    judge = AgreementJudge(original, quadrant_task, seed=0)
    assert judge.score(original) == 1.0
    assert 0.1 < judge.score(session(worse, "worse")) < 1.0


def test_tokens_cannot_be_mixed(quadrant_task: Task) -> None:
    tokens = torch.randint(0, 5, (20, 4))
    task = Task((tokens, torch.arange(20) % 2), test=(tokens, torch.arange(20) % 2))
    assert not can_mix(task.val)
    assert can_mix(quadrant_task.val)
