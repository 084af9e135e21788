"""Text formatting of figures, changes and origins, for both the page and the terminal."""

from __future__ import annotations

import math
import unicodedata
from typing import Final

from edgewright.core import (
    Breach,
    FigureName,
    Measurement,
    format_count,
    format_percent,
    format_size,
)

LABELS: Final[dict[FigureName, str]] = {
    "accuracy": "Accuracy",
    "size_bytes": "Size",
    "parameters": "Parameters",
    "latency_ms": "Latency, median",
    "mean_latency_ms": "Latency, mean",
    "macs": "MACs per sample, mean",
    "energy_mj": "Energy per sample",
    "ram_bytes": "Peak RAM",
}
_BETTER_WORSE: Final[dict[FigureName, tuple[str, str]]] = {
    "size_bytes": ("smaller", "larger"),
    "parameters": ("fewer", "more"),
    "latency_ms": ("faster", "slower"),
    "mean_latency_ms": ("faster", "slower"),
    "macs": ("fewer", "more"),
    "energy_mj": ("less", "more"),
    "ram_bytes": ("less", "more"),
}
_UNKNOWN: Final = "unknown"
_BIDI_CONTROLS: Final = frozenset(
    map(chr, (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))


def printable(text: str) -> str:
    r"""Replace characters that could corrupt a page or a terminal, such as control characters.

    Example:
        >>> printable("conv\x1b[31m") == "conv\ufffd[31m"
        True
    """
    return "".join("\ufffd" if _unprintable(character) else character for character in text)


def _unprintable(character: str) -> bool:
    if character in "\n\t":
        return False
    return unicodedata.category(character) in {"Cc", "Cs"} or character in _BIDI_CONTROLS


def format_figure(name: FigureName, value: float) -> str:
    """Format a figure's value, given in its base unit, with a readable unit.

    Example:
        >>> format_figure("accuracy", 0.9173), format_figure("energy_mj", 0.0042)
        ('91.73 %', '4.2 µJ')
        >>> format_figure("latency_ms", 1234.5)
        '1,234 ms'
    """
    if not math.isfinite(value):
        return _UNKNOWN
    match name:
        case "accuracy":
            return format_percent(value, 2)
        case "size_bytes" | "ram_bytes":
            return format_size(value)
        case "latency_ms" | "mean_latency_ms":
            return f"{format_significant(value)} ms"
        case "energy_mj":
            small = 0 < abs(value) < 1
            return (f"{format_significant(1000 * value)} µJ" if small
                    else f"{format_significant(value)} mJ")
    return format_count(value)


def format_bits(bits: int, compute_bits: int) -> str:
    """Format stored bits, with the bits computed in if those are more.

    Example:
        >>> format_bits(4, 8), format_bits(8, 8), format_bits(32, 32)
        ('4 (in 8)', '8', '32')
    """
    return f"{bits} (in {compute_bits})" if bits < compute_bits else str(bits)


def format_exact(name: FigureName, value: float) -> str:
    """Format a value with all digits, in its base unit.

    Example:
        >>> format_exact("size_bytes", 98496)
        '98,496 B'
    """
    units = {"accuracy": "", "size_bytes": " B", "ram_bytes": " B", "latency_ms": " ms",
             "mean_latency_ms": " ms", "energy_mj": " mJ"}
    whole = math.isfinite(value) and value == int(value) and name != "accuracy"
    return f"{int(value):,}{units.get(name, '')}" if whole else f"{value:.9g}{units.get(name, '')}"


def format_significant(value: float) -> str:
    """Format a number with three significant digits, or all digits before the point.

    Example:
        >>> format_significant(0.01234), format_significant(12.0), format_significant(45678.9)
        ('0.0123', '12', '45,679')
    """
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def format_duration(seconds: float) -> str:
    """Format a stage's wall time.

    Example:
        >>> format_duration(0.42), format_duration(75), format_duration(7384)
        ('0.42 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def describe_change(name: FigureName, before: float, after: float) -> str:
    """Describe how a figure changed; a change for the worse starts with "slower:" and the like.

    Example:
        >>> describe_change("size_bytes", 410e3, 100e3), describe_change("latency_ms", 2.0, 2.4)
        ('4.1x smaller', 'slower: 1.2x')
        >>> describe_change("accuracy", 0.917, 0.914), describe_change("macs", 0, 12)
        ('-0.3 points', 'more: from zero')
    """
    if not (math.isfinite(before) and math.isfinite(after)):
        return _UNKNOWN
    if name == "accuracy":
        return format_points(after - before)
    better, worse = _BETTER_WORSE[name]
    if before == after:
        return "same"
    if before <= 0 or after <= 0:
        return f"{worse}: from zero" if after > before else f"{better}: down to zero"
    if after < before:
        factor = format_factor(before / after)
        return f"{factor} {better}" if factor else "same"
    factor = format_factor(after / before)
    return f"{worse}: {factor}" if factor else "same"


def format_points(fraction: float) -> str:
    """Format a difference of two fractions in percentage points.

    Example:
        >>> format_points(-0.0027), format_points(0.01), format_points(0.0)
        ('-0.27 points', '+1 point', 'same')
    """
    points = round(100 * fraction, 2)
    if points == 0:
        return "same"
    return f"{points:+g} point" + ("" if abs(points) == 1 else "s")


def format_factor(ratio: float) -> str:
    """Format a ratio of at least 1; empty if it rounds to 1.

    Example:
        >>> format_factor(1.2), format_factor(12.3), format_factor(1.001)
        ('1.2x', '12x', '')
    """
    if ratio < 1.005:
        return ""
    digits = 2 if ratio < 1.095 else 1 if ratio < 9.95 else 0
    return f"{ratio:,.{digits}f}x"


def format_origin(measurement: Measurement) -> tuple[str, ...]:
    """A figure's provenance: its kind, split, samples or runs, runtime and spread.

    Example:
        >>> format_origin(Measurement(name="accuracy", value=0.9, kind="measured",
        ...                           split="test", samples=10_000, runtime="onnxruntime 1.22"))
        ('measured', 'test split', '10,000 samples', 'onnxruntime 1.22')
    """
    parts: list[str] = [measurement.kind]
    if measurement.split is not None:
        parts.append(f"{measurement.split} split")
    if measurement.samples:
        noun = "run" if measurement.split is None else "sample"
        parts.append(f"{measurement.samples:,} {noun}" + ("" if measurement.samples == 1 else "s"))
    if measurement.runtime is not None:
        parts.append(measurement.runtime)
    spread = format_spread(measurement)
    return (*parts, spread) if spread else tuple(parts)


def format_spread(measurement: Measurement) -> str:
    """Format the 10th and 90th percentile; empty if neither is known.

    Example:
        >>> format_spread(Measurement(name="latency_ms", value=2, kind="measured",
        ...                           low=1.9, high=2.3))
        'p10 1.9 ms, p90 2.3 ms'
    """
    ends = (("p10", measurement.low), ("p90", measurement.high))
    return ", ".join(f"{label} {format_figure(measurement.name, value)}"
                     for label, value in ends if value is not None)


def format_breach(breach: Breach) -> str:
    """Format a breached limit: the value found, the limit, and the difference.

    Example:
        >>> format_breach(Breach(constraint="size", figure="size_bytes", value=120e3, limit=100e3))
        'size: 120 kB, expected at most 100 kB (20 % over)'
    """
    side = "at least" if breach.figure == "accuracy" else "at most"
    expected = f"expected {side} {format_figure(breach.figure, breach.limit)}"
    if breach.value is None or not math.isfinite(breach.value):
        return f"{breach.constraint}: unknown, {expected}"
    noun = "accuracy " if breach.constraint == "max_drop" else ""
    found = f"{noun}{format_figure(breach.figure, breach.value)}"
    margin = format_margin(breach.figure, breach.value, breach.limit)
    return f"{breach.constraint}: {found}, {expected}" + (f" ({margin})" if margin else "")


def format_margin(name: FigureName, value: float, limit: float) -> str:
    """Format how far a figure is from its limit; empty if that is not defined.

    Example:
        >>> format_margin("latency_ms", 1.5, 2.0), format_margin("accuracy", 0.912, 0.915)
        ('25 % under', '0.3 points short')
    """
    if not (math.isfinite(value) and math.isfinite(limit)):
        return ""
    if name == "accuracy":
        points = round(100 * (value - limit), 2)
        noun = "point" if abs(points) == 1 else "points"
        return f"{abs(points):g} {noun} {'to spare' if points >= 0 else 'short'}"
    if limit <= 0:
        return ""
    share = 100 * (value / limit - 1)
    return f"{format_significant(abs(share))} % {'over' if share > 0 else 'under'}"
