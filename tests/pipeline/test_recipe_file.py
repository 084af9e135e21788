"""Faults of a recipe file are listed at once, with their lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.errors import SettingsError, UsageError
from edgewright.pipeline import Recipe

FAULTY = """\
name: wrong
prune:
  ration: 0.3
  criterion: tailor
recover:
  epochs: 3
  schedule: {cosine: {warmup_epochs: -1}}
  lr: 0.1
  epochs: 0
quantise: {}
quantize:
  layers:
    head: {weights: 17}
  method:
    qat:
      training:
        epochs: x
"""


def faults_of(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        Recipe.load(file)
    return [line.removeprefix(f"{tmp_path}/") for line in str(caught.value).splitlines()]


def test_every_fault_has_its_file_and_line_and_the_nearest_name(tmp_path: Path) -> None:
    lines = faults_of(tmp_path, FAULTY)
    assert [line[:line.index(": ", 10)] for line in lines] == [
        "a.yaml:3: prune.ration", "a.yaml:4: prune.criterion",
        "a.yaml:7: recover.schedule.cosine.warmup_epochs", "a.yaml:9: recover.epochs",
        "a.yaml:9: recover.epochs", "a.yaml:10: quantise",
        "a.yaml:13: quantize.layers.head.weights",
        "a.yaml:17: quantize.method.qat.training.epochs"]
    assert lines[0] == "a.yaml:3: prune.ration: unknown setting; did you mean ratio?"
    assert lines[1].endswith("did you mean taylor?")
    assert "given twice, first in line 6" in "".join(lines[3:5])
    assert lines[5].endswith("unknown setting; did you mean quantize?")


@pytest.mark.parametrize(("text", "line"), [
    ("", "a.yaml:1: Input should be a valid dictionary"),
    ("- prune", "a.yaml:1: Input should be a valid dictionary"),
    ("name: a\nexits: {places: []}", "a.yaml:2: exits.places: expected a whole number from 1"),
    ("name: a\nblocks:\n  samples: 3", "a.yaml:2: blocks: BlockPruning needs a goal"),
])
def test_faults_without_a_line_of_their_own_have_that_around_them(tmp_path: Path, text: str,
                                                                  line: str) -> None:
    assert faults_of(tmp_path, text)[0].startswith(line)


def test_text_that_is_no_yaml_has_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("name: a\nprune: [")
    with pytest.raises(UsageError, match=r"cannot read the recipe .*a.yaml:2: while parsing"):
        Recipe.load(file)
