"""Comparison of two sets of figures; all of the report's ratios are computed here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgewright.core import Figures, Measurement, MetricSpec, RunReport
from edgewright.report._text import COST_LABELS, describe_change, figure_spec, format_label

Verdict = Literal["better", "worse", "same", "unknown"]


@dataclass(frozen=True)
class Row:
    """One figure of the original and of the compressed file; at most one of them is missing.

    Attributes:
        figure: The figure's name.
        original: The original model's measurement, or None.
        compressed: The bundle's measurement, or None.

    Example:
        >>> before = Measurement(name="size_bytes", value=410e3, kind="measured")
        >>> row = Row("size_bytes", before, before.replace(value=100e3))
        >>> row.label, round(row.ratio, 3), row.change, row.verdict
        ('Size', 0.244, '4.1x smaller', 'better')
    """

    figure: str
    original: Measurement | None
    compressed: Measurement | None

    @property
    def label(self) -> str:
        """The figure's display name."""
        return format_label(self.spec)

    @property
    def spec(self) -> MetricSpec:
        """The figure's unit and direction."""
        known = self.compressed if self.original is None else self.original
        return figure_spec(self.figure) if known is None else known.spec

    @property
    def ratio(self) -> float | None:
        """Compressed over original; None if one is missing or the original is zero."""
        if self.original is None or self.compressed is None or self.original.value == 0:
            return None
        return self.compressed.value / self.original.value

    @property
    def change(self) -> str:
        """The change as text ("4.1x smaller", "slower: 1.2x"); empty if one is missing."""
        if self.original is None or self.compressed is None:
            return ""
        return describe_change(self.spec, self.original.value, self.compressed.value)

    @property
    def verdict(self) -> Verdict:
        """Whether the compressed file is better; ``same`` if the change rounds to nothing."""
        if self.original is None or self.compressed is None:
            return "unknown"
        before, after = self.original.value, self.compressed.value
        if not (math.isfinite(before) and math.isfinite(after)):
            return "unknown"
        if self.change == "same":
            return "same"
        return "better" if (after > before) == self.spec.higher_is_better else "worse"

    @property
    def within_spread(self) -> bool:
        """Whether each value is within the other's 10th to 90th percentile."""
        pair = (self.original, self.compressed)
        return all(_inside(one, other) for one, other in (pair, pair[::-1]))

    @property
    def kinds(self) -> str:
        """``measured``, ``modelled``, or both, original first, if the two sides differ."""
        kinds = [m.kind for m in (self.original, self.compressed) if m is not None]
        return " / ".join(dict.fromkeys(kinds))


def comparison_rows(report: RunReport) -> tuple[Row, ...]:
    """Every figure that the original or the compressed file has, in the page's order."""
    return rows_between(report.original, report.compressed)


def rows_between(original: Figures, compressed: Figures) -> tuple[Row, ...]:
    """Pair two sets of figures by name; names that neither has are omitted."""
    metrics = dict.fromkeys(metric.name for figures in (original, compressed)
                            for metric in figures.metrics)
    pairs = ((name, original.find(name), compressed.find(name))
             for name in (*metrics, *COST_LABELS))
    return tuple(Row(name, before, after) for name, before, after in pairs
                 if before is not None or after is not None)


def _inside(one: Measurement | None, other: Measurement | None) -> bool:
    if one is None or other is None or other.low is None or other.high is None:
        return False
    return other.low <= one.value <= other.high
