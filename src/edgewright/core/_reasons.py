"""Why layers were left as they are, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_NAMED: Final = 3  # layers a reason is given for by name


def kept_words(kept: Mapping[str, str]) -> str:
    """Layers by the reason they stay for; of many only the first ones by name.

    Args:
        kept: Names of weights to reasons.

    Example:
        >>> kept_words({"stem.weight": "it is fixed", "one.weight": "it is fixed", "a": "ignored"})
        'stem, one (it is fixed); a (ignored)'
    """
    if not kept:
        return "it has no layer with weights"
    by_reason: dict[str, list[str]] = {}
    for name, reason in kept.items():
        by_reason.setdefault(reason, []).append(name.removesuffix(".weight"))
    return "; ".join(f"{', '.join(names[:_NAMED])}{_more(len(names) - _NAMED)} ({reason})"
                     for reason, names in by_reason.items())


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
