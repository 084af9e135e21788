"""The parts of a recipe's quantization scheme that apply at a given stage."""

from __future__ import annotations

from collections.abc import Iterable

from edgewright.errors import UsageError
from edgewright.exits import list_head_tensors
from edgewright.graph import match_tensors
from edgewright.pipeline._recipe import Recipe
from edgewright.program import Program
from edgewright.quantization import Quantization


def scheme_before_exits(recipe: Recipe, program: Program) -> Quantization | None:
    """A recipe's scheme without the patterns that match only layers of exits not yet added.

    Args:
        recipe: The recipe.
        program: The program without exits.
    """
    scheme = recipe.quantize
    if scheme is None or recipe.exits is None:
        return scheme
    own, added = program.state_dict(), list_head_tensors(program, recipe.exits)
    layers = {pattern: precision for pattern, precision in scheme.layers.items()
              if _matches(own, pattern) or not _matches(added, pattern)}
    return scheme.replace(layers=layers)


def drop_missing_layers(config: Quantization, original: Program, program: Program) -> Quantization:
    """The scheme without patterns that match only layers removed by an earlier stage."""
    layers = {pattern: precision for pattern, precision in config.layers.items()
              if _matches(program.state_dict(), pattern)
              or not _matches(original.state_dict(), pattern)}
    return config.replace(layers=layers)


def _matches(tensors: Iterable[str], pattern: str) -> bool:
    try:
        return bool(match_tensors(tensors, [pattern]))
    except UsageError:
        return False
