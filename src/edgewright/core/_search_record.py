"""What a search tried: its candidates, what was predicted of them, and what was measured."""

from __future__ import annotations

from pydantic import Field

from edgewright.core._budget import Budget
from edgewright.core._measurement import Figures, Measurement, MetricSpec
from edgewright.core._settings import Value


class TrialRecord(Value):
    """One candidate of a search: what it changed, and what was measured on its file.

    Attributes:
        name: Its name among the candidates.
        removed: Names of the blocks that it removes.
        widths: Channels that it keeps, by the name of each group that loses some.
        bits: How many weights it stores in how many bits.
        training_seconds: Time of its training in floating point.
        quantized_training_seconds: Time of its training with quantization.
        predicted: Predicted costs, by the name of the limit.
        figures: Of its file: metrics on the validation split, size, latency.
        tested: Of its file, metrics on the test split; None if it was not tested.
        score: What candidates are compared by; higher is better.
        within_limits: Whether it meets the limits on costs.
        seconds: Time to build and measure it.
    """

    name: str
    removed: tuple[str, ...] = ()
    widths: dict[str, int] = Field(default_factory=dict)
    bits: dict[int, int] = Field(default_factory=dict)
    training_seconds: float = 0.0
    quantized_training_seconds: float = 0.0
    predicted: dict[str, float] = Field(default_factory=dict)
    figures: Figures
    tested: Figures | None = None
    score: float
    within_limits: bool
    seconds: float

    @property
    def stated(self) -> Figures:
        """The figures on the test split if there are any, else those on the validation split."""
        return self.figures if self.tested is None else self.tested


class CostPrediction(Value):
    """How well a predicted cost fits the measured one, over all candidates.

    Attributes:
        name: Name of the limit on the cost, such as ``size``.
        figure: Name of the figure.
        trials: Number of candidates that have both.
        mean_error: Mean of ``|predicted - measured| / measured``.
        rank_correlation: Spearman's rank correlation; None if all are equal.
    """

    name: str
    figure: str
    trials: int
    mean_error: float
    rank_correlation: float | None


class SearchRecord(Value):
    """A search and its candidates.

    Attributes:
        budget: The limits.
        original: The original's figures, metrics on the test split.
        validated: The original's metrics on the validation split.
        score: What candidates are compared by: its name, unit and direction.
        trials: Every candidate that was measured, in the order of building.
        front: Names of those that no other dominates in size, latency and score, smallest first.
        chosen: Name of the one that is the result; empty if there is none yet.
        predictions: How well predicted costs fit.
        phases: Seconds that each phase of the search took, in order.
        seconds: Time that the search took.
        time_limit: Time that it may take.

    Example:
        >>> figures = Figures.of(Measurement(name="size_bytes", value=9, kind="measured"))
        >>> trial = TrialRecord(name="a", figures=figures, score=-0.5, within_limits=True,
        ...                     seconds=1)
        >>> record = SearchRecord(budget=Budget(), original=figures, validated=figures,
        ...                       score=MetricSpec(name="mae", higher_is_better=False),
        ...                       trials=(trial,), front=("a",), seconds=1, time_limit=60)
        >>> record.trial("a").name, record.score_of(trial), record.drop_of(trial.figures)
        ('a', 0.5, None)
    """

    budget: Budget
    original: Figures
    validated: Figures
    score: MetricSpec
    trials: tuple[TrialRecord, ...]
    front: tuple[str, ...]
    chosen: str = ""
    predictions: tuple[CostPrediction, ...] = ()
    phases: dict[str, float] = Field(default_factory=dict)
    seconds: float
    time_limit: float

    def trial(self, name: str) -> TrialRecord:
        """The candidate of that name.

        Raises:
            KeyError: There is none.
        """
        for trial in self.trials:
            if trial.name == name:
                return trial
        raise KeyError(name)

    def score_of(self, trial: TrialRecord) -> float:
        """A candidate's score in its unit; lower is better if its direction says so."""
        return self.score.merit(trial.score)

    def drop_of(self, figures: Figures) -> float | None:
        """How much worse than the original's the primary metric is, on the same split.

        None if either is unknown.
        """
        after = figures.metric
        before = None if after is None else self._original_metric(after)
        if after is None or before is None:
            return None
        return before.spec.merit(before.value) - after.spec.merit(after.value)

    def _original_metric(self, metric: Measurement) -> Measurement | None:
        known = self.original if metric.split == "test" else self.validated
        return known.find(metric.name)
