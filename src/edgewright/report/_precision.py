"""Latency effect of quantization: the same network in floating point, and the slow layers."""

from __future__ import annotations

from typing import Final

from edgewright.core import LayerLatency, RunReport
from edgewright.report._html import Markup, el, typeset
from edgewright.report._rows import Row
from edgewright.report._tables import row, section, table
from edgewright.report._text import describe_change, format_factor, format_figure, printable

_MAX_NAMES: Final = 3  # slow layers named in a warning
_FLOAT_BITS: Final = 32


def slower_than(report: RunReport) -> tuple[tuple[str, Row], ...]:
    """Baselines that the compressed file is slower than: the original, the float network."""
    rows = (("the original", _median(report, "original")),
            ("in floating point", _median(report, "unquantized")))
    return tuple((than, row) for than, row in rows if row.verdict == "worse")


def slowdown_warning(report: RunReport) -> str:
    """One line that warns of a file slower than its baselines; empty if it is not.

    Example:
        >>> from edgewright.core import Budget, Figures, Measurement
        >>> fast = Measurement(name="latency_ms", value=2, kind="measured")
        >>> slow = fast.replace(value=3.0)
        >>> slowdown_warning(RunReport(
        ...     data="digits", recipe={}, seed=0, budget=Budget(), versions={}, machine="",
        ...     original=Figures.of(slow), compressed=Figures.of(slow), simulated=Figures(),
        ...     unquantized=Figures.of(fast),
        ...     slow_layers=(LayerLatency(name="fc", float_ms=1, int8_ms=2),)))
        'Slower than in floating point (1.5x). Slower in 8 bits, each measured in isolation: fc \
(2 ms, 1 ms in float).'
    """
    found = slower_than(report)
    if not found:
        return ""
    baselines = " and ".join(f"than {than} ({_describe_factor(row)}"
                             f"{', within the spread' if row.within_spread else ''})"
                             for than, row in found)
    return f"Slower {baselines}.{_describe_causes(report)}"


def _describe_factor(row: Row) -> str:
    return "from zero" if row.ratio is None else format_factor(row.ratio)


def precision_section(report: RunReport) -> Markup:
    """Latency of the same network in floating point, and the layers that are slower in 8 bits."""
    median = _median(report, "unquantized")
    if median.original is None or median.compressed is None:
        return Markup("")
    lead = (f"Before quantization the same network takes "
            f"{format_figure('latency_ms', median.original.value)}, after it "
            f"{format_figure('latency_ms', median.compressed.value)} ({median.change}): medians, "
            "measured interleaved.")
    if not report.slow_layers:
        aside = el("p", _explain_no_slow_layer(report)) if slower_than(report) else ""
        return section("Integers and floating point", el("p", typeset(lead)), aside)
    rows = [row(layer.name, _ms(layer.float_ms), _ms(layer.int8_ms),
                el("td", typeset(_change(layer)), class_="change worse"))
            for layer in report.slow_layers]
    return section(
        "Integers and floating point",
        table(("Layer", "Floating point", "8 bits", "Change"), rows, "layers"),
        lead=typeset(f"{lead} The layers below are slower in 8 bits, each measured in isolation "
                     "on this machine with one thread; the largest difference first."))


def _median(report: RunReport, other: str) -> Row:
    return Row("latency_ms", getattr(report, other).find("latency_ms"),
               report.compressed.find("latency_ms"))


def _describe_causes(report: RunReport) -> str:
    layers = report.slow_layers
    if not layers:
        quantized = report.unquantized.find("latency_ms") is not None
        return f" {_explain_no_slow_layer(report)}" if quantized else ""
    named = ", ".join(f"{printable(layer.name)} ({_ms(layer.int8_ms)}, "
                      f"{_ms(layer.float_ms)} in float)" for layer in layers[:_MAX_NAMES])
    more = f" and {len(layers) - _MAX_NAMES} more" if len(layers) > _MAX_NAMES else ""
    return f" Slower in 8 bits, each measured in isolation: {named}{more}."


def _explain_no_slow_layer(report: RunReport) -> str:
    if all(layer.compute_bits == _FLOAT_BITS for layer in report.layers if layer.channels):
        return "No layer computes in integers: only the weights are stored as integers."
    return ("Measured in isolation on this machine, no layer is slower in 8 bits: the time is "
            "spent on quantizing values between layers, or on the layers in floating point.")


def _change(layer: LayerLatency) -> str:
    return describe_change("latency_ms", layer.float_ms, layer.int8_ms)


def _ms(value: float) -> str:
    return format_figure("latency_ms", value)
