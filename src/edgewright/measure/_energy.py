"""Energy modelled from operation counts; never measured, and labelled as modelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edgewright.errors import UsageError

ENERGY_MODEL: Final = "Horowitz 2014, 45 nm"

_PJ_PER_MAC: Final = {32: 3.7 + 0.9, 8: 0.2 + 0.1}
_PJ_PER_BYTE: Final = 20 / 8
_MJ_PER_PJ: Final = 1e-9


def energy_mj(macs: Mapping[int, int], bytes_moved: int) -> float:
    """Energy in millijoules of the arithmetic and the memory traffic of one inference.

    From M. Horowitz, "Computing's energy problem", ISSCC 2014, figure 1.1.9, at 45 nm and 0.9 V: a
    float32 multiply takes 3.7 pJ and an add 0.9 pJ, an 8-bit integer multiply 0.2 pJ and
    the 32-bit integer add it accumulates with 0.1 pJ, and reading 64 bits from a 32 KB SRAM 20 pJ.
    Instructions, DRAM and leakage are not included, so the model is for comparing networks, not for
    predicting battery life.

    Args:
        macs: Multiply-accumulates per operand width in bits: 32 (float) or 8 (integer).
        bytes_moved: Weights and activations read and written, in bytes.

    Raises:
        UsageError: The model has no figure for a width, or a count is negative.

    Example:
        >>> round(energy_mj({8: 1_000_000}, 200_000), 6), round(energy_mj({32: 1_000_000}, 0), 6)
        (0.0008, 0.0046)
    """
    unknown = sorted(set(macs) - set(_PJ_PER_MAC))
    if unknown:
        raise UsageError(f"the energy model ({ENERGY_MODEL}) has no figure for {unknown} bits; "
                         f"count such MACs under one of {sorted(_PJ_PER_MAC)}")
    if bytes_moved < 0 or any(count < 0 for count in macs.values()):
        raise UsageError(f"counts must be at least 0, got macs={dict(macs)}, "
                         f"bytes_moved={bytes_moved}")
    arithmetic_pj = sum(_PJ_PER_MAC[bits] * count for bits, count in macs.items())
    return (arithmetic_pj + _PJ_PER_BYTE * bytes_moved) * _MJ_PER_PJ
