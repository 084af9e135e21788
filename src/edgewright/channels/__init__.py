"""Channel groups: which channels are coupled, and how to remove them with a numerical proof."""

from edgewright.channels._apply import Applied, apply_to
from edgewright.channels._branch_removal import bypass_branches, remove_branch, remove_branches
from edgewright.channels._branches import (
    Branch,
    as_node,
    find_branch_calls,
    find_branches,
    is_plain_addition,
    resolve_branches,
)
from edgewright.channels._channels import ChannelGroup, ChannelGroups, TensorDim, find_groups
from edgewright.channels._incidence import Incidence
from edgewright.channels._named_widths import resolve_widths
from edgewright.channels._polynomial import Monomial, Polynomial, PolynomialStack, Widths
from edgewright.channels._side_by_side import SideBySide
from edgewright.channels._sizes import SymbolicShapes
from edgewright.channels._slicing import remove_and_measure, remove_channels
from edgewright.channels._widths import (
    GroupWidths,
    LegalWidths,
    RoundTo,
    compute_group_widths,
    count_channels,
)

__all__ = [
    "Applied",
    "Branch",
    "ChannelGroup",
    "ChannelGroups",
    "GroupWidths",
    "Incidence",
    "LegalWidths",
    "Monomial",
    "Polynomial",
    "PolynomialStack",
    "RoundTo",
    "SideBySide",
    "SymbolicShapes",
    "TensorDim",
    "Widths",
    "apply_to",
    "as_node",
    "bypass_branches",
    "compute_group_widths",
    "count_channels",
    "find_branch_calls",
    "find_branches",
    "find_groups",
    "is_plain_addition",
    "remove_and_measure",
    "remove_branch",
    "remove_branches",
    "remove_channels",
    "resolve_branches",
    "resolve_widths",
]
