"""The quantize stage's scheme: what of it is still there to be quantised, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from edgewright.errors import UsageError
from edgewright.program import FLOAT_BITS, Program, match_tensors
from edgewright.quantization import Quantization, place

_NAMED: Final = 3  # layers a reason is given for by name


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


def without_gone(config: Quantization, original: Program, program: Program) -> Quantization:
    """The scheme without the patterns whose layers an earlier stage removed."""
    layers = {pattern: precision for pattern, precision in config.layers.items()
              if _matches(program, pattern) or not _matches(original, pattern)}
    return config.model_copy(update={"layers": layers})


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
    kept = place(before, config).kept
    return (counted, f"in floating point: {_reasons(kept)}") if kept else (counted,)


def _matches(program: Program, pattern: str) -> bool:
    try:
        return bool(match_tensors(program.state_dict(), [pattern]))
    except UsageError:
        return False


def _reasons(kept: Mapping[str, str]) -> str:
    """Layers by the reason they stay for; of many only the first ones by name."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in kept.items():
        by_reason.setdefault(reason, []).append(name.removesuffix(".weight"))
    return "; ".join(f"{', '.join(names[:_NAMED])}{_more(len(names) - _NAMED)} ({reason})"
                     for reason, names in by_reason.items())


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _layers(count: int) -> str:
    return f"{count} layer" + ("" if count == 1 else "s")
