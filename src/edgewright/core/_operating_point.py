"""Operating points: which segments of a bundle run, and when a sample leaves early."""

from __future__ import annotations

from typing import Any, Final, Literal, Self, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from edgewright.core._measurement import Figures
from edgewright.core._settings import Value

ExitPolicy = Literal["confidence", "margin", "entropy", "patience", "gate"]
EXIT_POLICIES: Final[tuple[ExitPolicy, ...]] = get_args(ExitPolicy)
GATE_INPUTS: Final = 4


def format_threshold(threshold: float | None) -> str:
    """Write an exit's threshold for people; None is an exit that is never taken.

    Example:
        >>> format_threshold(0.98765), format_threshold(None)
        ('0.9877', 'never')
    """
    return "never" if threshold is None else f"{threshold:.4g}"


class ExitRule(Value):
    """When a sample leaves after one segment: when its score reaches the threshold.

    Attributes:
        threshold: Lowest score that leaves: see `edgewright.runtime.exit_scores`, or the segment's
            own score; None if the exit is never taken.
        temperature: Divides this exit's logits before their softmax; 1 for a segment with its own
            score.
        gate: Weights of a learned gate, the constant first, then one per score.

    Example:
        >>> ExitRule(threshold=None).model_dump_json(exclude_none=True)
        '{"threshold":null,"temperature":1.0,"gate":[]}'
    """

    threshold: float | None
    temperature: float = Field(default=1.0, gt=0)
    gate: tuple[float, ...] = ()

    @model_serializer(mode="wrap")
    def _write_null_threshold(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keep a threshold of None where a bundle leaves out every other None."""
        return {"threshold": self.threshold, **handler(self)}


class Guarantee(Value):
    """A bound on what leaving early costs, on data like the calibration data.

    With probability ``1 - delta`` over the draw of the calibration samples, the accuracy (the mean
    share of a sample's decisions that are right) is at most ``epsilon`` below that of the point's
    full path.

    Attributes:
        epsilon: Largest loss of accuracy, as a fraction.
        delta: Probability that the bound is wrong.
        samples: Number of samples it was tested on.
        split: The split they are from.
        p_value: Of the hypothesis that the loss is above epsilon, at the chosen thresholds; at
            most ``delta``.
    """

    epsilon: float = Field(gt=0, lt=1)
    delta: float = Field(gt=0, lt=1)
    samples: int
    split: str
    p_value: float


class ExitProfile(Value):
    """Where the samples of a split left an operating point.

    Attributes:
        split: The split's name.
        samples: Number of samples.
        shares: Share of samples that left after each segment, the last included.
        deciles: Of the confidence after the first segment (the top softmax probability, or the
            segment's own score), the reference for drift detection; empty without exits.
        errors_before: Expected calibration error of each early exit without its temperature (Guo
            et al. 2017): how far its confidence is from its accuracy; empty if unknown.
        errors_after: The same with its temperature; equal if the segment has its own score.
    """

    split: str
    samples: int
    shares: tuple[float, ...]
    deciles: tuple[float, ...] = ()
    errors_before: tuple[float, ...] = ()
    errors_after: tuple[float, ...] = ()


class CurvePoint(Value):
    """Cost and accuracy on the test split at one set of thresholds.

    Attributes:
        thresholds: One per early exit, in order; None for an exit that is never taken.
        macs: Mean multiply-accumulates per sample.
        accuracy: Measured, as a fraction: mean share of a sample's decisions that are right, see
            `RunReport.exit_measure`.
    """

    thresholds: tuple[float | None, ...]
    macs: float
    accuracy: float


class OperatingPoint(Value):
    """One way to run a bundle, with its cost and accuracy.

    Attributes:
        name: The name to select it by.
        path: Numbers of the segments that run, in order.
        policy: The score that decides whether a sample leaves.
        rules: One per segment of the path but the last.
        figures: Accuracy, mean cost and latency, if known.
        calibrated: Where the samples that the thresholds were chosen on leave.
        tested: Where the test samples leave.
        guarantee: None if none was asked for.

    Raises:
        ValueError: An empty path, or rules that do not match it.

    Example:
        >>> point = OperatingPoint(name="default", path=(0, 1), rules=(ExitRule(threshold=0.9),))
        >>> point.thresholds
        (0.9,)
    """

    name: str
    path: tuple[int, ...] = Field(min_length=1)
    policy: ExitPolicy = "confidence"
    rules: tuple[ExitRule, ...] = ()
    figures: Figures = Figures()
    calibrated: ExitProfile | None = None
    tested: ExitProfile | None = None
    guarantee: Guarantee | None = None

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        if len(self.rules) != len(self.path) - 1:
            raise ValueError(f"{len(self.rules)} rules for a path of {len(self.path)} segments; "
                             "every segment but the last needs one")
        if self.policy == "gate" and any(len(rule.gate) != GATE_INPUTS for rule in self.rules):
            raise ValueError(f"a learned gate needs {GATE_INPUTS} weights at every exit")
        return self

    @property
    def thresholds(self) -> tuple[float | None, ...]:
        """The threshold of every early exit, in order; None for one that is never taken."""
        return tuple(rule.threshold for rule in self.rules)
