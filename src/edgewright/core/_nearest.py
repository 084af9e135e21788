"""The known name that is nearest to an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(name: str, known: Iterable[str]) -> str:
    """The nearest known name as a question, or all of them.

    Example:
        >>> suggest("wieghts", ["weights", "seed"]), suggest("x", ["weights", "seed"])
        ('did you mean weights?', 'known: weights, seed')
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(names) or 'none'}"
