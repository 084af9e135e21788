"""Ways through a bundle: which segments run, and when a sample may leave."""

from __future__ import annotations

from typing import Final, Literal, Self, get_args

from pydantic import Field, model_validator

from edgewright.core._measurement import Figures
from edgewright.core._settings import Value

Policy = Literal["confidence", "margin", "entropy", "patience", "gate"]
POLICIES: Final[tuple[Policy, ...]] = get_args(Policy)
GATE_INPUTS: Final = 4
NEVER: Final = 1000.0  # a threshold above any probability and any number of exits


def format_threshold(threshold: float) -> str:
    """Write an exit's threshold as people read it.

    Example:
        >>> format_threshold(0.98765), format_threshold(NEVER)
        ('0.9877', 'never')
    """
    return "never" if threshold >= NEVER else f"{threshold:.4g}"


class ExitRule(Value):
    """When a sample leaves after one segment: when its score reaches the threshold.

    Attributes:
        threshold: Of the score; see `edgewright.runtime.exit_scores`.
        temperature: Divides this exit's logits before their softmax.
        gate: Weights of a learned gate: of its four inputs, the constant first.
    """

    threshold: float
    temperature: float = Field(default=1.0, gt=0)
    gate: tuple[float, ...] = ()


class Guarantee(Value):
    """What is known of the accuracy that leaving early costs, on data like the calibration's.

    With probability ``1 - delta`` over the draw of the calibration samples, the accuracy is at
    most ``epsilon`` below that of the point's full path.

    Attributes:
        epsilon: As a fraction.
        delta: Chance that the statement is wrong.
        samples: That it was tested on.
        split: They are of.
        p_value: Of a loss above epsilon, at the thresholds chosen; at most ``delta``.
    """

    epsilon: float = Field(gt=0, lt=1)
    delta: float = Field(gt=0, lt=1)
    samples: int
    split: str
    p_value: float


class ExitProfile(Value):
    """How the samples of a split went through an operating point.

    Attributes:
        split: They are of.
        samples: How many.
        shares: Share that left after each segment, the last included.
        deciles: Of the top softmax probability after the first segment, by which drift is seen;
            empty without exits.
        errors_before: Expected calibration error of each early exit without its temperature (Guo
            et al. 2017): how far its confidence is from its accuracy; empty where not known.
        errors_after: The same with its temperature.
    """

    split: str
    samples: int
    shares: tuple[float, ...]
    deciles: tuple[float, ...] = ()
    errors_before: tuple[float, ...] = ()
    errors_after: tuple[float, ...] = ()


class CurvePoint(Value):
    """What leaving so early, and no earlier, costs and is worth on the test split.

    Attributes:
        thresholds: Of every early exit, in order.
        macs: Mean multiply-accumulates of a sample.
        accuracy: Measured, as a fraction.
    """

    thresholds: tuple[float, ...]
    macs: float
    accuracy: float


class OperatingPoint(Value):
    """One way through a bundle, with what it costs and is worth.

    Attributes:
        name: To choose it by.
        path: Numbers of the segments that run, in order.
        policy: What makes an exit sure.
        rules: Of each segment of the path but the last.
        figures: Accuracy, mean cost and latency, where they are known.
        calibrated: The samples the rules were chosen on.
        tested: The test samples.
        guarantee: None where none was asked for.

    Raises:
        ValueError: An empty path, or rules that do not go with it.

    Example:
        >>> point = OperatingPoint(name="default", path=(0, 1), rules=(ExitRule(threshold=0.9),))
        >>> point.thresholds
        (0.9,)
    """

    name: str
    path: tuple[int, ...] = Field(min_length=1)
    policy: Policy = "confidence"
    rules: tuple[ExitRule, ...] = ()
    figures: Figures = Figures()
    calibrated: ExitProfile | None = None
    tested: ExitProfile | None = None
    guarantee: Guarantee | None = None

    @model_validator(mode="after")
    def _rules_fit(self) -> Self:
        if len(self.rules) != len(self.path) - 1:
            raise ValueError(f"{len(self.rules)} rules for a path of {len(self.path)} segments; "
                             "every segment but the last needs one")
        if self.policy == "gate" and any(len(rule.gate) != GATE_INPUTS for rule in self.rules):
            raise ValueError(f"a learned gate needs {GATE_INPUTS} weights at every exit")
        return self

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Of every early exit, in order."""
        return tuple(rule.threshold for rule in self.rules)
