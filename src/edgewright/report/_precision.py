"""What integers gain or cost in time: the same network in floating point, and the slow layers."""

from __future__ import annotations

from typing import Final

from edgewright.core import LayerLatency, Manifest
from edgewright.report._html import Markup, el, typeset
from edgewright.report._rows import Row
from edgewright.report._tables import row, section, table
from edgewright.report._text import change_words, format_figure, printable

_NAMED: Final = 3  # slow layers a warning names
_FLOAT_BITS: Final = 32


def slower_than(manifest: Manifest) -> tuple[tuple[str, Row], ...]:
    """What the compressed file's median latency is above: the original, the float network."""
    rows = (("the original", _median(manifest, "original")),
            ("in floating point", _median(manifest, "unquantized")))
    return tuple((than, row) for than, row in rows if row.verdict == "worse")


def slow_words(manifest: Manifest) -> str:
    """Warn of a file that is slower than another, in one line; nothing where it is not.

    Example:
        >>> from edgewright.core import Budget, Figures, Measurement
        >>> fast = Measurement(name="latency_ms", value=2, kind="measured")
        >>> slow = fast.replace(value=3.0)
        >>> slow_words(Manifest(
        ...     model="net", data="digits", recipe={}, seed=0, budget=Budget(), versions={},
        ...     machine="", inputs=(), outputs=(), segments=(), simulated=Figures(),
        ...     original=Figures.of(slow), compressed=Figures.of(slow),
        ...     unquantized=Figures.of(fast),
        ...     slow_layers=(LayerLatency(name="fc", float_ms=1, int8_ms=2),)))
        'Slower than in floating point (1.5x). Slower in 8 bits, each measured alone: fc (2 ms \
against 1 ms).'
    """
    found = slower_than(manifest)
    if not found:
        return ""
    told = " and ".join(f"than {than} ({row.change.removeprefix('slower: ')}"
                        f"{', within the spread' if row.within_spread else ''})"
                        for than, row in found)
    return f"Slower {told}.{_costs(manifest)}"


def integers(manifest: Manifest) -> Markup:
    """Write what the same network takes in floating point, and the layers slower in 8 bits."""
    median = _median(manifest, "unquantized")
    if median.original is None or median.compressed is None:
        return Markup("")
    lead = (f"Before it was quantised the same network takes "
            f"{format_figure('latency_ms', median.original.value)}, after it "
            f"{format_figure('latency_ms', median.compressed.value)} ({median.change}): medians, "
            "timed in turn.")
    if not manifest.slow_layers:
        aside = el("p", _no_slow_layer(manifest)) if slower_than(manifest) else ""
        return section("Integers against floating point", el("p", typeset(lead)), aside)
    rows = [row(layer.name, _ms(layer.float_ms), _ms(layer.int8_ms),
                el("td", typeset(_change(layer)), class_="change worse"))
            for layer in manifest.slow_layers]
    return section(
        "Integers against floating point",
        table(("Layer", "Floating point", "8 bits", "Change"), rows, "layers"),
        lead=typeset(f"{lead} The layers below are slower in 8 bits, each measured alone on this "
                     "machine, one thread; the costliest come first."))


def _median(manifest: Manifest, other: str) -> Row:
    return Row("latency_ms", getattr(manifest, other).find("latency_ms"),
               manifest.compressed.find("latency_ms"))


def _costs(manifest: Manifest) -> str:
    layers = manifest.slow_layers
    if not layers:
        quantized = manifest.unquantized.find("latency_ms") is not None
        return f" {_no_slow_layer(manifest)}" if quantized else ""
    named = ", ".join(f"{printable(layer.name)} ({_ms(layer.int8_ms)} against "
                      f"{_ms(layer.float_ms)})" for layer in layers[:_NAMED])
    more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
    return f" Slower in 8 bits, each measured alone: {named}{more}."


def _no_slow_layer(manifest: Manifest) -> str:
    if all(layer.compute_bits == _FLOAT_BITS for layer in manifest.layers if layer.channels):
        return "No layer computes in integers: the weights are only stored in them."
    return ("Measured alone on this machine, no layer is slower in 8 bits: the time goes into "
            "quantising values between layers, or into what is in floating point.")


def _change(layer: LayerLatency) -> str:
    return change_words("latency_ms", layer.float_ms, layer.int8_ms)


def _ms(value: float) -> str:
    return format_figure("latency_ms", value)
