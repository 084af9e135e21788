"""Names of classes."""

from __future__ import annotations

from collections.abc import Sequence


def label_of(index: int, names: Sequence[str] | None) -> str:
    """The name of a class, or its number if it has none.

    Example:
        >>> label_of(1, ("cat", "dog")), label_of(1, None)
        ('dog', 'class 1')
    """
    return f"class {index}" if names is None else names[index]
