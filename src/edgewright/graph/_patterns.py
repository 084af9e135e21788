"""Layers by name or pattern."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable

from edgewright.errors import UsageError


def match_tensors(names: Iterable[str], patterns: Iterable[str],
                  option: str = "ignore") -> dict[str, str]:
    """The tensors that patterns mean, each with the first pattern that means it.

    A pattern is a tensor's name, its layer's, that of a module around it, or a shell pattern of
    the first two.

    Args:
        names: Of the tensors.
        patterns: Looked at in order.
        option: Where the user wrote them, for the message.

    Raises:
        UsageError: A pattern that matches nothing.

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
            raise UsageError(_no_layer(pattern, known, option))
        for name in matched:
            found.setdefault(name, pattern)
    return found


def _no_layer(pattern: str, names: list[str], option: str) -> str:
    layers = sorted({name.rpartition(".")[0] for name in names})
    near = difflib.get_close_matches(pattern, [*layers, *names], n=5, cutoff=0.5)
    listed = f"near names: {', '.join(near)}" if near else f"there are: {', '.join(layers)}"
    return f"{option}={pattern!r} matches no layer; {listed}"
