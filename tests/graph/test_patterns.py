"""Layers are selected by name, by an enclosing module, or by a shell pattern."""

from __future__ import annotations

from typing import Any

import pytest

from edgewright.errors import UsageError
from edgewright.graph import match_tensors

NAMES = ["stem.weight", "layer1.0.conv.weight", "layer1.0.conv.bias", "layer10.conv.weight",
         "gamma"]


@pytest.mark.parametrize(("pattern", "matched"), [
    ("stem", NAMES[:1]), ("layer1", NAMES[1:3]), ("layer1.0.conv.bias", NAMES[2:3]),
    ("*.conv", NAMES[1:4]), ("*.bias", NAMES[2:3]), ("gamma", NAMES[4:]), ("*", NAMES),
])
def test_tensors_that_a_pattern_matches(pattern: str, matched: Any) -> None:
    assert list(match_tensors(NAMES, [pattern])) == matched


def test_the_first_matching_pattern_is_returned() -> None:
    assert match_tensors(NAMES, ["layer1.0", "layer1", "stem"]) == {
        NAMES[1]: "layer1.0", NAMES[2]: "layer1.0", NAMES[0]: "stem"}


def test_a_pattern_without_a_match_is_refused_with_similar_names() -> None:
    with pytest.raises(UsageError, match=r"ignore='stemm' matches no layer; similar names: stem, "
                                         r"stem\.weight"):
        match_tensors(NAMES, ["stemm"])
    with pytest.raises(UsageError, match=r"ignore='q' matches no layer; layers: , "
                                         r"layer1\.0\.conv, layer10\.conv, stem"):
        match_tensors(NAMES, ["q"])
