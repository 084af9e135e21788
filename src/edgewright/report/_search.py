"""The search section: every candidate, the front, predictions, and what each stage cost."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from edgewright.core import (
    CONSTRAINTS,
    Figures,
    Measurement,
    RunReport,
    SearchRecord,
    StageRecord,
    TrialRecord,
    format_cost,
    format_percent,
)
from edgewright.report._charts import wide_and_narrow
from edgewright.report._front import front_charts
from edgewright.report._html import Markup, el, join, typeset
from edgewright.report._tables import row, section, table, value
from edgewright.report._text import (
    describe_change,
    format_difference,
    format_duration,
    format_figure,
    format_label,
)

_COSTS: Final = ("size", "latency")


def search_sections(record: SearchRecord) -> Markup:
    """The race, every candidate, and how well predictions fit."""
    drawings = [part for chart in front_charts(record)
                for part in (el("h3", chart.title), *wide_and_narrow(chart))]
    return join([
        section("Search", *drawings, _phases(record), lead=_summarize(record)),
        section("Candidates", _candidates(record), lead=_explain_candidates(record)),
        section("Predicted and measured", _costs(record), _drops(record),
                lead="Costs are predicted before a candidate is built; its drop on the validation "
                     "split predicts the final one on the test split, which selects nothing.")])


def stage_costs(report: RunReport) -> Markup:
    """What each stage of a run changed, and its time."""
    rows = [row(after.name, *_changes(before, after), format_duration(after.seconds))
            for before, after in pairwise(report.stages)]
    if not rows:
        return Markup("")
    return section("What each stage cost", table(("Stage", "Metric", "Size", "Time"), rows),
                   lead="Of the result: the change of the metric on the validation split and of "
                        "the size by each stage.")


def _summarize(record: SearchRecord) -> str:
    chosen = f" The result is {record.chosen}." if record.chosen else ""
    return (f"{len(record.trials)} candidates were built and measured in "
            f"{format_duration(record.seconds)} of {format_duration(record.time_limit)}; they are "
            f"compared by {_score_name(record)}. No other candidate beats the {len(record.front)} "
            f"of the front in size, latency and score.{chosen}")


def _score_name(record: SearchRecord) -> str:
    metric = record.validated.metric
    same = metric is not None and metric.name == record.score.name
    return f"their {record.score.name} on the validation split" if same else (
        f"their {record.score.name}, since the original is better on the validation split than on "
        "the test split by more than chance explains")


def _phases(record: SearchRecord) -> Markup:
    facts = [(name, format_duration(seconds)) for name, seconds in record.phases.items()]
    return el("dl", *(el("div", el("dt", name), el("dd", text)) for name, text in facts),
              class_="facts-list") if facts else Markup("")


def _explain_candidates(record: SearchRecord) -> str:
    outside = sum(not trial.within_limits for trial in record.trials)
    return ("What each changed, and what was predicted and measured, in the order of building. "
            f"{outside} exceed a limit on costs. Bits are those of the weights: 12 x 8 are twelve "
            "weights in 8 bits.")


def _candidates(record: SearchRecord) -> Markup:
    head = ("Candidate", "Blocks removed", "Narrowed", "Bits", "Training", "Size", "Latency",
            record.score.name.capitalize(), "Time")
    return table(head, [_candidate(record, trial) for trial in record.trials], "trials")


def _candidate(record: SearchRecord, trial: TrialRecord) -> Markup:
    badges = [name for name, holds in (
        ("result", trial.name == record.chosen), ("front", trial.name in record.front),
        ("over a limit", not trial.within_limits)) if holds]
    name = join([el("bdi", trial.name), *(el("em", badge, class_="badge") for badge in badges)],
                " ")
    return row(name, ", ".join(trial.removed) or "none", _widths(trial), _bits(trial),
               _training(trial), *(_cost_cell(trial, cost) for cost in _COSTS),
               typeset(format_figure(record.score, record.score_of(trial))),
               format_duration(trial.seconds))


def _widths(trial: TrialRecord) -> Markup:
    """How many groups are narrower, with their widths in the tooltip."""
    if not trial.widths:
        return Markup("none")
    listed = ", ".join(f"{name} {width}" for name, width in trial.widths.items())
    count = len(trial.widths)
    return el("span", f"{count} group{'s' if count > 1 else ''}", title=listed)


def _bits(trial: TrialRecord) -> Markup:
    return typeset(", ".join(f"{count} x {bits}" for bits, count
                             in sorted(trial.bits.items(), reverse=True)))


def _training(trial: TrialRecord) -> str:
    parts = [format_duration(trial.training_seconds)] if trial.training_seconds else []
    if trial.quantized_training_seconds:
        parts.append(f"{format_duration(trial.quantized_training_seconds)} quantized")
    return " + ".join(parts) or "none"


def _cost_cell(trial: TrialRecord, name: str) -> Markup:
    """The measured cost, and below it the predicted one."""
    predicted = trial.predicted.get(name)
    below = "" if predicted is None else el("small", f"{format_cost(name, predicted)} predicted")
    return el("td", value(trial.figures.find(CONSTRAINTS[name].figure)), below)


def _costs(record: SearchRecord) -> Markup:
    rows = [row(found.name, str(found.trials), format_percent(found.mean_error),
                "unknown" if found.rank_correlation is None else f"{found.rank_correlation:.2f}")
            for found in record.predictions]
    if not rows:
        return Markup("")
    return table(("Predicted cost", "Candidates", "Mean error", "Rank correlation"), rows, "points")


def _drops(record: SearchRecord) -> Markup:
    """The drops of the files that were tested, on both splits."""
    rows = [_drop(record, trial, trial.tested) for trial in record.trials
            if trial.tested is not None]
    if not rows:
        return Markup("")
    metric = record.original.metric
    name = "metric" if metric is None else format_label(metric.spec).lower()
    head = ("Tested file", record.score.name.capitalize(), f"Drop of the {name}, validation",
            f"Drop of the {name}, test", "Difference")
    return table(head, rows, "points")


def _drop(record: SearchRecord, trial: TrialRecord, tested: Figures) -> Markup:
    predicted, final = record.drop_of(trial.figures), record.drop_of(tested)
    metric = trial.figures.metric
    difference = None if predicted is None or final is None else final - predicted
    return row(trial.name, typeset(format_figure(record.score, record.score_of(trial))),
               *(_points(metric, amount) for amount in (predicted, final, difference)))


def _points(metric: Measurement | None, amount: float | None) -> Markup:
    if metric is None or amount is None:
        return Markup("unknown")
    return typeset(format_difference(metric.spec, amount))


def _changes(before: StageRecord, after: StageRecord) -> Iterator[Markup]:
    """The changes of the metric and of the size."""
    size = "size_bytes"
    for first, second in ((before.figures.metric, after.figures.metric),
                          (before.figures.find(size), after.figures.find(size))):
        yield Markup("unknown") if first is None or second is None else typeset(
            describe_change(second.spec, first.value, second.value))
