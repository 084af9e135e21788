"""The settings of early exits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Self, final

from pydantic import Field, field_validator, model_validator

from edgewright.core import Choice, ExitPolicy, Settings
from edgewright.errors import UsageError
from edgewright.exits._head_designs import HEADS, AutoHead, HeadDesign
from edgewright.training import Training

DEFAULT_POINT: Final = "default"


@final
class ExitCostModel(Settings):
    """The cost model by which exits are placed; see `plan_exits`.

    Attributes:
        exit_rate_exponent: The share of samples that can leave by an exit after the share ``c`` of
            the computation is modelled as ``c ** exit_rate_exponent``. A larger value models harder
            samples; raise it if fewer samples leave early than planned.
        exit_rates: Measured shares by the names of calls, instead of the model; interpolated
            linearly. Use them if a first run has measured the shares.
        overhead: Cost of an exit besides its head for every sample that reaches it, as a share of
            the network's multiply-accumulates: an engine call and the decision.

    Raises:
        UsageError: A value out of range.

    Example:
        >>> ExitCostModel(exit_rates={"relu_1": 0.3}).overhead
        0.05
    """

    exit_rate_exponent: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    exit_rates: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    overhead: float = Field(default=0.05, ge=0, allow_inf_nan=False)


@final
class JointTraining(Settings):
    """Trains the network together with its exits, which improves the early exits most.

    The accuracy of the last exit may drop. Choose `HeadTraining` if that is not acceptable.

    Attributes:
        settings: The settings of the training.
        gradient_equilibrium: Keep the network's gradient independent of the number of exits (Li et
            al. 2019; see `SummedExitLoss`); False minimizes the mean over the exits.

    Example:
        >>> JointTraining(settings=Training(epochs=20, lr=0.05)).gradient_equilibrium
        True
    """

    settings: Training = Training(epochs=3, lr=0.02)
    gradient_equilibrium: bool = True


@final
class HeadTraining(Settings):
    """Trains only the heads and changes no other tensor, so that the last exit is unaffected.

    Choose it for a quantized network, or if the accuracy of the full network must not change.

    Attributes:
        settings: The settings of the training.

    Example:
        >>> HeadTraining(settings=Training(epochs=3, lr=0.05)).settings.epochs
        3
    """

    settings: Training = Training(epochs=3, lr=0.02)


EXIT_TRAINING: Final = Choice(joint=JointTraining, heads=HeadTraining)


@final
class ExitCalibration(Settings):
    """How exit thresholds are chosen: the confidence measure and the allowed accuracy drop.

    Attributes:
        policy: The confidence measure; see `edgewright.runtime.exit_scores`. ``confidence`` is
            cheap and a good default; ``patience`` needs no temperature. Goals other than a
            classification have ``confidence`` only, see `edgewright.goals.Goal.exit_confidence`.
        confidence_level: Probability, above 0.5 and below 1, that the drop also holds on new data
            from the distribution of the validation split; None tunes on the split without a
            guarantee. 0.95 needs a few thousand samples for a drop of 1 %.
        max_drop: Accuracy that the exits may cost on the validation split, as a fraction; with a
            ``confidence_level``, on new data. For goals other than a classification, the mean share
            of a sample's decisions (pixels, labels), see `edgewright.goals.Goal.exit_quality`. If
            the primary metric is another fraction, such as the mean IoU, it may drop by no more
            than that on the validation split either, without a guarantee.
        points: Additional operating points by name, each with its allowed drop. A guarantee holds
            for each separately.

    Raises:
        UsageError: A value out of range, or a guarantee that no number of samples can give.

    Example:
        >>> ExitCalibration(max_drop=0.01, points={"fast": 0.03}).drops
        {'default': 0.01, 'fast': 0.03}
    """

    policy: ExitPolicy = "confidence"
    confidence_level: float | None = Field(default=None, gt=0.5, lt=1)
    max_drop: float = Field(default=0.005, ge=0, lt=1)
    points: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(default_factory=dict)

    @property
    def drops(self) -> dict[str, float]:
        """Allowed drop of every operating point by its name, the default one first."""
        return {DEFAULT_POINT: self.max_drop, **self.points}

    @model_validator(mode="after")
    def _check_points(self) -> Self:
        if DEFAULT_POINT in self.points:
            raise UsageError(f"ExitCalibration: the point {DEFAULT_POINT!r} is the one of "
                             "max_drop; choose another name")
        drops = {"max_drop": self.max_drop, **self.points}
        unkept = [name for name, drop in drops.items() if drop == 0]
        if self.confidence_level is not None and unkept:
            raise UsageError(f"ExitCalibration: {', '.join(unkept)}: no number of samples can show "
                             "that leaving early costs 0; allow a drop above 0, or set "
                             "confidence_level to None")
        return self


@final
class EarlyExits(Settings):
    """Settings of early exits: their places, heads, training, and calibration.

    By default the number of exits is chosen by the cost model, because it depends on the network
    and on the cost of its heads; a fixed number raises for networks with fewer places. In a
    recipe's YAML::

        places: 2                                       # or auto, or [relu_1, relu_3]
        head: auto                                      # or {pooled: 1}
        training: {heads: {settings: {epochs: 3}}}      # or joint, heads, null
        calibration: {max_drop: 0.01, confidence_level: 0.95}
        cut: auto                                       # or 1, null
        keep: if_faster                                 # or if_taken

    Attributes:
        places: Number of early exits; ``auto`` for as many as are expected to save more than their
            heads cost; or the names of the calls to attach exits to, as listed by
            `find_exit_places`. Places that are not named minimize the expected
            multiply-accumulates, see `plan_exits`.
        cost_model: Expected savings and costs of exits.
        head: The module that computes an exit's output: ``auto``, ``pooled``, ``convolutional``,
            ``token``, ``temporal``, ``dense`` (`AutoHead` and so on), or a `HeadDesign` of your
            own. ``auto`` selects a suitable head for each tensor.
        training: ``joint`` (`JointTraining`), ``heads`` (`HeadTraining`), or None to leave the
            heads untrained (if a later stage trains them). A `Training` stands for a
            `JointTraining` with these settings.
        calibration: The confidence measure and the allowed accuracy drop.
        cut: Number of the exit, from 1, at which the network ends: its head gives the output, and
            the network behind it is removed before quantization; needs a number of places or their
            names. ``auto`` cuts the exported file where 98 % of the validation samples leave and
            the metric stays within the budget (without a limit on metrics, within ``max_drop``).
            None never cuts.
        keep: ``if_faster`` keeps the exits if the exported file is faster with them than without,
            on average over validation samples. Choose ``if_taken``, which keeps exits that a
            sample takes and the whole network, for sessions that adapt to deadlines.

    Raises:
        UsageError: A value out of range, or invalid places.

    Example:
        >>> EarlyExits(places=("relu_1", "relu_3")).head
        AutoHead(grid=2)
        >>> EarlyExits(places=2, training=HeadTraining(), calibration=ExitCalibration(
        ...     max_drop=0.01)).training.settings.epochs
        3
    """

    places: int | Literal["auto"] | tuple[str, ...] = "auto"
    cost_model: ExitCostModel = ExitCostModel()
    head: Annotated[HeadDesign, HEADS] = AutoHead()
    training: Annotated[JointTraining | HeadTraining, EXIT_TRAINING] | None = JointTraining()
    calibration: ExitCalibration = ExitCalibration()
    cut: Annotated[int, Field(ge=1, strict=True)] | Literal["auto"] | None = "auto"
    keep: Literal["if_faster", "if_taken"] = "if_faster"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the calls to attach exits to; empty if they are chosen automatically."""
        return self.places if isinstance(self.places, tuple) else ()

    @property
    def count(self) -> int | None:
        """The number of exits; None if the cost model chooses it."""
        if isinstance(self.places, int):
            return self.places
        return len(self.names) or None

    @property
    def cuts_measured_file(self) -> bool:
        """Whether the exported file decides where the network ends.

        A guarantee is about the whole network, so that a cut would void it.
        """
        return (self.cut == "auto" and self.keep == "if_faster"
                and self.calibration.confidence_level is None)

    def limit_drop(self, most: float) -> EarlyExits:
        """The settings with an allowed drop of at most this.

        Example:
            >>> EarlyExits().limit_drop(0.001).calibration.max_drop
            0.001
        """
        drop = min(self.calibration.max_drop, most)
        return self.replace(calibration=self.calibration.replace(max_drop=drop))

    @field_validator("places", mode="before")
    @classmethod
    def _check_places(cls, places: Any) -> Any:
        if places == "auto" or (type(places) is int and places >= 1):
            return places
        is_list = isinstance(places, Sequence) and not isinstance(places, str)
        if not is_list or not places or not all(isinstance(name, str) for name in places):
            raise UsageError("expected a whole number from 1, 'auto', or names "
                             f"of calls, got {places!r}")
        if len(set(places)) < len(places):
            raise UsageError(f"it has duplicates: {', '.join(places)}")
        return tuple(places)

    @field_validator("training", mode="before")
    @classmethod
    def _default_to_joint_training(cls, training: Any) -> Any:
        return JointTraining(settings=training) if isinstance(training, Training) else training

    @model_validator(mode="after")
    def _check_cut(self) -> Self:
        if isinstance(self.cut, int) and (self.count is None or self.cut > self.count):
            has = "an unknown number of" if self.count is None else self.count
            raise UsageError(f"EarlyExits: cut={self.cut} is the number of an exit, but there are "
                             f"{has} places; give at least {self.cut}, as a number or by name")
        return self

    @model_validator(mode="after")
    def _check_patience(self) -> Self:
        left = self.cut - 1 if isinstance(self.cut, int) else self.count
        if self.calibration.policy == "patience" and left == 1:
            raise UsageError("EarlyExits: patience waits for two exits in a row that agree, and "
                             "there is one; take more exits or another policy")
        return self
