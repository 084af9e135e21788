"""The quantize stage's scheme: what of it is still there to be quantised, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch

from edgewright.core import format_skip_reasons
from edgewright.errors import UsageError
from edgewright.exits import head_tensors
from edgewright.graph import FLOAT_BITS, match_tensors, stored_tensors
from edgewright.pipeline._recipe import Recipe
from edgewright.program import Program
from edgewright.quantization import Quantization, float_share, place


def scheme_note(config: Quantization) -> str:
    """How a scheme finds its integers, in words.

    Example:
        >>> scheme_note(Quantization(rounding="adaround"))
        'static ptq (adaround), ranges by mse'
        >>> scheme_note(Quantization(method="qat", ranges="percentile"))
        'static qat (lsq), ranges by percentile (99.99 %)'
    """
    learnt = config.quantizer if config.method == "qat" else config.rounding
    detail = "" if learnt == "nearest" else f" ({learnt})"
    share = f" ({config.percentile:g} %)" if config.ranges == "percentile" else ""
    chosen = "" if config.mixed is None else f", bits chosen by {config.mixed.method}"
    return (f"{config.mode.replace('_', '-')} {config.method}{detail}, "
            f"ranges by {config.ranges}{share}{chosen}")


def refinements(config: Quantization) -> str:
    """What a scheme does so that post-training quantization loses less, in words; may be empty.

    Example:
        >>> refinements(Quantization(equalize=True, rounding="adaround"))
        'equalize and rounding by adaround'
    """
    if config.method == "qat":
        return ""
    found = [name for name in ("equalize", "correct_bias") if getattr(config, name)]
    found += [f"rounding by {config.rounding}"] * (config.rounding != "nearest")
    return " and ".join(found)


def without_refinements(config: Quantization) -> Quantization | None:
    """The scheme without them; None where it has none."""
    if not refinements(config):
        return None
    return config.replace(equalize=False, correct_bias=False, rounding="nearest")


def scheme_at_first(recipe: Recipe, program: Program) -> Quantization | None:
    """A recipe's scheme without the patterns whose layers are still to be added, the exits'.

    Args:
        recipe: With the scheme.
        program: Without exits.
    """
    scheme = recipe.quantize
    if scheme is None or recipe.exits is None:
        return scheme
    own, added = program.state_dict(), head_tensors(program, recipe.exits)
    layers = {pattern: precision for pattern, precision in scheme.layers.items()
              if _matches(own, pattern) or not _matches(added, pattern)}
    return scheme.replace(layers=layers)


def without_gone(config: Quantization, original: Program, program: Program) -> Quantization:
    """The scheme without the patterns whose layers an earlier stage removed."""
    layers = {pattern: precision for pattern, precision in config.layers.items()
              if _matches(program.state_dict(), pattern)
              or not _matches(original.state_dict(), pattern)}
    return config.replace(layers=layers)


def precision_notes(before: Program, after: Program, config: Quantization) -> tuple[str, ...]:
    """The bits that a program's layers have, and which stay in floating point and why.

    Args:
        before: In floating point.
        after: Quantised.
        config: The scheme.
    """
    bits = Counter((layer.weight_bits, layer.activation_bits) for layer in after.costs().layers
                   if layer.weight is not None and layer.weight_bits < FLOAT_BITS)
    counted = ", ".join(f"W{weights}A{activations} of {_layers(count)}"
                        for (weights, activations), count in bits.most_common())
    tensors = _only_stored(after)
    if tensors:
        counted = ", ".join(filter(None, [counted, f"{tensors} only stored as integers"]))
    kept = place(before, config).kept
    share = float_share(after, kept)
    if share.is_real:
        return counted, str(share)
    return (counted, f"in floating point: {format_skip_reasons(kept)}") if kept else (counted,)


def _only_stored(program: Program) -> str:
    """How many tensors of integers are the weight of no layer, in words."""
    layers = {layer.weight for layer in program.costs().layers}
    stored = stored_tensors(program.graph_module).items()
    count = sum(tensor.dtype is torch.int8 and name not in layers for name, tensor in stored)
    return "" if not count else f"{count} tensor" + ("" if count == 1 else "s")


def _matches(tensors: Iterable[str], pattern: str) -> bool:
    try:
        return bool(match_tensors(tensors, [pattern]))
    except UsageError:
        return False


def _layers(count: int) -> str:
    return f"{count} layer" + ("" if count == 1 else "s")
