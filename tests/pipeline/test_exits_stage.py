"""The stage that adds exits, where the network has become too small for them."""

from __future__ import annotations

from pathlib import Path

import edgewright as ew
from edgewright.pipeline import Recipe
from edgewright.pipeline._directory import RunDirectory
from edgewright.pipeline._narrator import Narrator
from edgewright.pipeline._stages import Stages
from edgewright.task import Task


def test_exits_that_no_longer_pay_are_left_out(trained_program: ew.Program, quadrant_task: Task,
                                               tmp_path: Path) -> None:
    recipe = Recipe(exits=ew.EarlyExits(overhead=1.0, training=None))
    said: list[str] = []

    class Listening(Narrator):
        def note(self, text: str) -> None:
            said.append(text)

    directory = RunDirectory.open(tmp_path, {})
    stages = Stages(trained_program, quadrant_task, recipe, (), 0, directory,
                    Listening(quiet=True))
    staged = stages.run()
    assert staged.program.exits == 0
    assert "early exits left out: none promises to save more than it costs" in said
