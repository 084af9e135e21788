"""How many samples leave at each exit, and what they cost up to there."""

from __future__ import annotations

from itertools import accumulate

from edgewright.core import Manifest, Segment, format_count
from edgewright.report._charts import bar
from edgewright.report._html import Markup, el
from edgewright.report._tables import row, section, table
from edgewright.report._text import significant


def exit_chart(manifest: Manifest) -> Markup:
    """Draw the share of samples that leave at each exit; nothing for a model without exits."""
    segments = manifest.segments
    if len(segments) < 2:
        return Markup("")
    costs = list(accumulate(segment.macs for segment in segments))
    samples = _samples(manifest)
    rows = [_exit(index, segment, cost, segments, samples)
            for index, (segment, cost) in enumerate(zip(segments, costs, strict=True))]
    head = ("Exit", "Leave here", "Confidence asked", "MACs to here")
    return section("Exits", table(head, rows, "exits"), lead=_summary(segments, costs))


def _exit(index: int, segment: Segment, cost: int, segments: tuple[Segment, ...],
          samples: int) -> Markup:
    last = index == len(segments) - 1
    share = f"{100 * segment.exit_share:.1f} %"
    count = f"{round(segment.exit_share * samples):,} of {samples:,} samples" if samples else ""
    asked = "none" if segment.threshold is None else f"{segment.threshold:.4g}"
    return row("Final" if last else f"Exit {index + 1}",
               el("td", el("div", bar(segment.exit_share, 0, 1), el("span", share), class_="meter"),
                  el("small", count) if count else ""), asked, format_count(cost))


def _samples(manifest: Manifest) -> int:
    accuracy = manifest.compressed.find("accuracy")
    return 0 if accuracy is None else accuracy.samples


def _summary(segments: tuple[Segment, ...], costs: list[int]) -> str:
    early = 1 - segments[-1].exit_share
    words = f"{100 * early:.1f} % of the test samples leave before the end"
    if costs[-1] <= 0:
        return f"{words}."
    mean = sum(segment.exit_share * cost for segment, cost in zip(segments, costs, strict=True))
    return (f"{words}; the mean sample needs {significant(100 * mean / costs[-1])} % "
            "of the MACs of the full path.")
