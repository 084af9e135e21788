"""Pruning: removing channels and blocks, and setting weights to zero."""

from edgewright.pruning._block_damages import BlockDamages, measure_block_damages
from edgewright.pruning._blocks import BlockPruning, prune_blocks
from edgewright.pruning._config import ChannelPruning
from edgewright.pruning._prune import prune
from edgewright.pruning._refit import Refit, find_unfitted_layers, refit_layers
from edgewright.pruning._regularize import StructureRegularization, regularize, remove_vanished
from edgewright.pruning._weight_pruning import WeightPruning
from edgewright.pruning._weights import prune_weights
from edgewright.pruning.criteria import score_channels

__all__ = [
    "BlockDamages",
    "BlockPruning",
    "ChannelPruning",
    "Refit",
    "StructureRegularization",
    "WeightPruning",
    "find_unfitted_layers",
    "measure_block_damages",
    "prune",
    "prune_blocks",
    "prune_weights",
    "refit_layers",
    "regularize",
    "remove_vanished",
    "score_channels",
]
