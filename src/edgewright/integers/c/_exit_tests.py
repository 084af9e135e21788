"""The table that exits in C read."""

from __future__ import annotations

from edgewright.integers._exits import EXPONENT_BITS, ONE_BITS, POWERS, TABLE_BITS


def write_powers() -> str:
    """Define powers of two between 1/2 and 1, and the places of their points."""
    values = ", ".join(map(str, POWERS))
    return "\n".join([
        f"#define EW_ONE_BITS {ONE_BITS}", f"#define EW_EXPONENT_BITS {EXPONENT_BITS}",
        f"#define EW_TABLE_BITS {TABLE_BITS}",
        f"static const int32_t ew_powers[{len(POWERS)}] = {{{values}}};", ""])
