"""The examples of the READMEs beside the code compute what they show."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "edgewright"
READMES = sorted(PACKAGE.rglob("README.md"))


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.parent.name)
def test_the_examples_of_a_readme_hold(path: Path) -> None:
    found = doctest.testfile(str(path), module_relative=False, encoding="utf-8")
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.parent.name)
def test_the_files_that_a_readme_names_are_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    files = re.findall(r"`(_\w+\.py)`", text) + re.findall(r"\]\(([^)]+\.md)\)", text)
    assert files
    assert [name for name in files if not (path.parent / name).is_file()] == []
