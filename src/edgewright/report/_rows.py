"""Original against compressed: the one place where the report's ratios are computed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgewright.core import FigureName, Figures, Manifest, Measurement
from edgewright.report._text import LABELS, change_words

Verdict = Literal["better", "worse", "same", "unknown"]


@dataclass(frozen=True)
class Row:
    """One figure of the original and of the compressed file; either may be missing, not both.

    Attributes:
        figure: Which figure.
        original: Of the original model's file, or None.
        compressed: Of the bundle, or None.

    Example:
        >>> before = Measurement(name="size_bytes", value=410e3, kind="measured")
        >>> row = Row("size_bytes", before, before.replace(value=100e3))
        >>> row.label, round(row.ratio, 3), row.change, row.verdict
        ('Size', 0.244, '4.1x smaller', 'better')
    """

    figure: FigureName
    original: Measurement | None
    compressed: Measurement | None

    @property
    def label(self) -> str:
        """The figure's name for people."""
        return LABELS[self.figure]

    @property
    def ratio(self) -> float | None:
        """Compressed over original; None where one is missing or the original's is zero."""
        if self.original is None or self.compressed is None or self.original.value == 0:
            return None
        return self.compressed.value / self.original.value

    @property
    def change(self) -> str:
        """The change in words ("4.1x smaller", "slower: 1.2x"); empty where one is missing."""
        if self.original is None or self.compressed is None:
            return ""
        return change_words(self.figure, self.original.value, self.compressed.value)

    @property
    def verdict(self) -> Verdict:
        """Whether the compressed file is better; ``same`` where `change` says so."""
        if self.original is None or self.compressed is None:
            return "unknown"
        before, after = self.original.value, self.compressed.value
        if not (math.isfinite(before) and math.isfinite(after)):
            return "unknown"
        if self.change == "same":
            return "same"
        return "better" if (after > before) == (self.figure == "accuracy") else "worse"

    @property
    def within_spread(self) -> bool:
        """Whether each value lies within the other's 10th to 90th percentile."""
        pair = (self.original, self.compressed)
        return all(_inside(one, other) for one, other in (pair, pair[::-1]))

    @property
    def kinds(self) -> str:
        """``measured``, ``modelled``, or both in order where the two sides differ."""
        kinds = [m.kind for m in (self.original, self.compressed) if m is not None]
        return " / ".join(dict.fromkeys(kinds))


def comparison_rows(manifest: Manifest) -> tuple[Row, ...]:
    """Every figure that the original or the compressed file has, in the report's order."""
    return rows_between(manifest.original, manifest.compressed)


def rows_between(original: Figures, compressed: Figures) -> tuple[Row, ...]:
    """Pair two sets of figures by name; a name that neither has is left out."""
    pairs = ((name, original.find(name), compressed.find(name)) for name in LABELS)
    return tuple(Row(name, before, after) for name, before, after in pairs
                 if before is not None or after is not None)


def _inside(one: Measurement | None, other: Measurement | None) -> bool:
    if one is None or other is None or other.low is None or other.high is None:
        return False
    return other.low <= one.value <= other.high
