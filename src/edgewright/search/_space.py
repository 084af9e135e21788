"""What a search can decide about a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgewright.allocation import JointSpace, select_blocks
from edgewright.channels import LegalWidths, compute_group_widths, find_branches, find_groups
from edgewright.graph import match_tensors, stored_tensors
from edgewright.program import Program
from edgewright.quantization import Quantization, place, resolve

BITS: Final = (8, 4, 3, 2)
_WIDTHS: Final = LegalWidths("auto", 0.125)
_MOST_WIDTHS: Final = 6  # per group, evenly spaced


def make_space(program: Program, scheme: Quantization, ignore: Sequence[str] = ()) -> JointSpace:
    """The blocks, widths and bits to choose from.

    Args:
        program: In floating point.
        scheme: The quantization; layers next to inputs and outputs keep at least its
            ``first_last_bits``.
        ignore: Names or patterns of layers whose output channels and blocks are kept.

    Raises:
        UsageError: A pattern matches nothing.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.ReLU(),
        ...                             torch.nn.Linear(32, 32), torch.nn.Linear(32, 3))
        >>> space = make_space(Program.capture(model, torch.zeros(1, 4)), Quantization())
        >>> [widths.tolist() for widths in space.widths][0]
        [8, 16, 24, 32]
        >>> space.bits
        {'0.weight': (8,), '2.weight': (8, 4, 3, 2), '3.weight': (8,)}
    """
    groups = find_groups(program, tuple(ignore))
    kept = set(match_tensors(stored_tensors(program.graph_module), ignore))
    blocks = select_blocks([branch for branch in find_branches(program)
                            if kept.isdisjoint(branch.tensors)])
    fewest = place(program, resolve(scheme).with_bits(1, 1))
    bits = {point.tensor: tuple(count for count in BITS if count >= point.grid.bits)
            for point in fewest.weights}
    return JointSpace(program, groups,
                      [_thin(group.legal) for group in compute_group_widths(groups, _WIDTHS)],
                      blocks, bits)


def _thin(legal: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most six of the legal widths, evenly spaced, the largest included."""
    places = np.linspace(0, len(legal) - 1, min(len(legal), _MOST_WIDTHS)).round().astype(np.int64)
    thinned: NDArray[np.int64] = legal[places]
    return thinned
