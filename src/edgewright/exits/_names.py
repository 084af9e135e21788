"""Names of the tensors of exit heads in a program."""

from __future__ import annotations

from itertools import chain, count
from typing import Final

import torch
from torch import nn

from edgewright.exits._config import EarlyExits
from edgewright.exits._places import find_exit_places, find_named_places
from edgewright.program import Program

_HEADS_NAME: Final = "exits"


def name_heads_module(module: nn.Module) -> str:
    """The name of the submodule for the heads: ``exits``, numbered if that is taken.

    Example:
        >>> name_heads_module(nn.Module()), name_heads_module(nn.ModuleDict({"exits": nn.ReLU()}))
        ('exits', 'exits_1')
    """
    names = chain((_HEADS_NAME,), (f"{_HEADS_NAME}_{number}" for number in count(1)))
    return next(name for name in names if not hasattr(module, name))


def list_head_tensors(program: Program, config: EarlyExits) -> frozenset[str]:
    """All names that head tensors may get, for any exit of the config at any place.

    Args:
        program: A program without exits.
        config: The settings with which exits will be added.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> sorted(list_head_tensors(program, EarlyExits(places=1)))
        ['exits.0.bias', 'exits.0.weight']
    """
    places = (find_named_places if config.names else find_exit_places)(program, config)
    with torch.device("meta"):
        leaves = {name for place in places for name in place.head.make().state_dict()}
    most = len(places) if config.count is None else config.count
    owner = name_heads_module(program.graph_module)
    return frozenset(f"{owner}.{index}.{leaf}" for index in range(most) for leaf in leaves)
