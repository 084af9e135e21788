"""Selecting layers by name or pattern."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable

from edgewright.errors import UsageError


def match_tensors(names: Iterable[str], patterns: Iterable[str],
                  option: str = "ignore") -> dict[str, str]:
    """The tensors that match a pattern, each with the first pattern that matches it.

    A pattern is the name of a tensor, of its layer or of an enclosing module, or a shell pattern
    for a tensor or layer name.

    Args:
        names: Names of the tensors.
        patterns: Patterns, tried in order.
        option: The user's option that holds the patterns, for the message.

    Raises:
        UsageError: A pattern matches nothing.

    Example:
        >>> match_tensors(["stem.weight", "layer1.0.conv.weight"], ["layer1"])
        {'layer1.0.conv.weight': 'layer1'}
    """
    known, found = list(names), dict[str, str]()
    for pattern in patterns:
        matched = [name for name in known if name.startswith(f"{pattern}.")
                   or fnmatch.fnmatchcase(name, pattern)
                   or fnmatch.fnmatchcase(name.rpartition(".")[0], pattern)]
        if not matched:
            raise UsageError(_unmatched_message(pattern, known, option))
        for name in matched:
            found.setdefault(name, pattern)
    return found


def _unmatched_message(pattern: str, names: list[str], option: str) -> str:
    layers = sorted({name.rpartition(".")[0] for name in names})
    near = difflib.get_close_matches(pattern, [*layers, *names], n=5, cutoff=0.5)
    listed = f"similar names: {', '.join(near)}" if near else f"layers: {', '.join(layers)}"
    return f"{option}={pattern!r} matches no layer; {listed}"
