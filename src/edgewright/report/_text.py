"""Text formatting of figures, changes and origins, for both the page and the terminal."""

from __future__ import annotations

import math
import unicodedata
from typing import Final, TypeAlias

from edgewright.core import (
    Breach,
    CostName,
    Measurement,
    MetricSpec,
    format_count,
    format_metric,
    format_significant,
    format_size,
    known_figure,
)

Figure: TypeAlias = "MetricSpec | str"
COST_LABELS: Final[dict[CostName, str]] = {
    "size_bytes": "Size",
    "parameters": "Parameters",
    "latency_ms": "Latency, median",
    "mean_latency_ms": "Latency, mean",
    "macs": "MACs per sample, mean",
    "energy_mj": "Energy per sample",
    "ram_bytes": "Peak RAM",
}
_BETTER_WORSE: Final[dict[str, tuple[str, str]]] = {
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


def figure_spec(figure: Figure) -> MetricSpec:
    """Unit and direction of a figure, given by its name or by its spec."""
    if isinstance(figure, MetricSpec):
        return figure
    return known_figure(figure) or MetricSpec(name=figure)


def format_label(figure: Figure) -> str:
    """A figure's display name.

    Example:
        >>> format_label("macs"), format_label("accuracy"), format_label("age/mae")
        ('MACs per sample, mean', 'Accuracy', 'age/mae')
    """
    name = figure_spec(figure).name
    if name in COST_LABELS:
        return COST_LABELS[name]
    return "Accuracy" if name == "accuracy" else name


def format_figure(figure: Figure, value: float) -> str:
    """Format a figure's value, given in its base unit, with a readable unit.

    Args:
        figure: A metric, or the name of a cost or of the accuracy.
        value: The value.

    Example:
        >>> format_figure("accuracy", 0.9173), format_figure("energy_mj", 0.0042)
        ('91.73 %', '4.2 µJ')
        >>> format_figure("latency_ms", 1234.5)
        '1,234 ms'
    """
    if not math.isfinite(value):
        return _UNKNOWN
    spec = figure_spec(figure)
    match spec.unit:
        case "B":
            return format_size(value)
        case "count" | "MAC/sample":
            return format_count(value)
        case "mJ/sample":
            small = 0 < abs(value) < 1
            return (f"{format_significant(1000 * value)} µJ" if small
                    else f"{format_significant(value)} mJ")
        case "ms":
            return f"{format_significant(value)} ms"
    return format_metric(spec, value)


def format_bits(bits: int, compute_bits: int) -> str:
    """Format stored bits, with the bits computed in if those are more.

    Example:
        >>> format_bits(4, 8), format_bits(8, 8), format_bits(32, 32)
        ('4 (in 8)', '8', '32')
    """
    return f"{bits} (in {compute_bits})" if bits < compute_bits else str(bits)


def format_exact(figure: Figure, value: float) -> str:
    """Format a value with all digits, in its base unit.

    Example:
        >>> format_exact("size_bytes", 98496)
        '98,496 B'
    """
    spec = figure_spec(figure)
    hidden = {"fraction": "", "count": "", "MAC/sample": "", "mJ/sample": "mJ"}
    unit = hidden.get(spec.unit, spec.unit)
    whole = math.isfinite(value) and value == int(value) and spec.unit != "fraction"
    return f"{int(value):,} {unit}".rstrip() if whole else f"{value:.9g} {unit}".rstrip()


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


def describe_change(figure: Figure, before: float, after: float) -> str:
    """Describe how a figure changed; a change for the worse starts with "slower:" and the like.

    Example:
        >>> describe_change("size_bytes", 410e3, 100e3), describe_change("latency_ms", 2.0, 2.4)
        ('4.1x smaller', 'slower: 1.2x')
        >>> describe_change("accuracy", 0.917, 0.914), describe_change("macs", 0, 12)
        ('-0.3 points', 'more: from zero')
    """
    if not (math.isfinite(before) and math.isfinite(after)):
        return _UNKNOWN
    spec = figure_spec(figure)
    if spec.name not in _BETTER_WORSE:
        return format_difference(spec, after - before)
    better, worse = _BETTER_WORSE[spec.name]
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


def format_difference(spec: MetricSpec, difference: float) -> str:
    """Format a difference of two values of a metric: points of a fraction, else its unit.

    Example:
        >>> format_difference(MetricSpec(name="mae", unit="years"), 0.25)
        '+0.25 years'
    """
    if spec.unit == "fraction":
        return format_points(difference)
    text = f"{difference:+.3g}"
    return "same" if float(text) == 0 else f"{text} {spec.unit}".rstrip()


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
    return ", ".join(f"{label} {format_figure(measurement.spec, value)}"
                     for label, value in ends if value is not None)


def format_breach(breach: Breach) -> str:
    """Format a breached limit: the value found, the limit, and the difference.

    Example:
        >>> format_breach(Breach(constraint="size", figure="size_bytes", value=120e3, limit=100e3))
        'size: 120 kB, expected at most 100 kB (20 % over)'
    """
    spec = MetricSpec(name=breach.figure, unit=breach.unit, higher_is_better=not breach.at_most)
    spec = known_figure(breach.figure) or spec
    side = "at most" if breach.at_most else "at least"
    expected = f"expected {side} {format_figure(spec, breach.limit)}"
    if breach.value is None or not math.isfinite(breach.value):
        return f"{breach.constraint}: unknown, {expected}"
    noun = f"{breach.figure} " if breach.constraint == "max_drop" else ""
    found = f"{noun}{format_figure(spec, breach.value)}"
    margin = format_margin(spec, breach.value, breach.limit)
    return f"{breach.constraint}: {found}, {expected}" + (f" ({margin})" if margin else "")


def format_margin(figure: Figure, value: float, limit: float) -> str:
    """Format how far a figure is from its limit; empty if that is not defined.

    Example:
        >>> format_margin("latency_ms", 1.5, 2.0), format_margin("accuracy", 0.912, 0.915)
        ('25 % under', '0.3 points short')
    """
    if not (math.isfinite(value) and math.isfinite(limit)):
        return ""
    spec = figure_spec(figure)
    if spec.name not in COST_LABELS:
        spare = spec.merit(value) - spec.merit(limit)
        amount = format_difference(spec, abs(spare)).lstrip("+").replace("same", "0")
        amount = f"{amount} points" if amount == "0" and spec.unit == "fraction" else amount
        return f"{amount} {'to spare' if spare >= 0 else 'short'}"
    if limit <= 0:
        return ""
    share = 100 * (value / limit - 1)
    return f"{format_significant(abs(share))} % {'over' if share > 0 else 'under'}"
