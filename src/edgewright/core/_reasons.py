"""Messages on why layers were skipped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_MAX_NAMES: Final = 3  # layers named per reason


def format_skip_reasons(skipped: Mapping[str, str]) -> str:
    """List skipped layers grouped by reason, naming at most three per reason.

    Args:
        skipped: Weight names to reasons.

    Example:
        >>> format_skip_reasons({"stem.weight": "it is fixed", "one.weight": "it is fixed",
        ...                      "a": "ignored"})
        'stem, one (it is fixed); a (ignored)'
    """
    if not skipped:
        return "it has no layer with weights"
    by_reason: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        by_reason.setdefault(reason, []).append(name.removesuffix(".weight"))
    return "; ".join(f"{', '.join(names[:_MAX_NAMES])}{_format_rest(len(names) - _MAX_NAMES)} "
                     f"({reason})" for reason, names in by_reason.items())


def _format_rest(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
