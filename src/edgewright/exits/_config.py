"""How early exits are added."""

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
    """What exits are expected to save and to cost, by which they are placed; see `plan_exits`.

    Attributes:
        exit_rate_exponent: Modelled share of the samples that can leave by an exit behind the share
            ``c`` of the work: ``c ** exit_rate_exponent``. The greater, the harder the samples are
            held to be; raise it where fewer leave than was planned.
        exit_rates: Measured such shares by the names of calls, in place of the model; interpolated
            linearly between them.
        overhead: What an exit costs every sample that reaches it beside its head, as a share of the
            network's multiply-accumulates: a call of the engine and the decision.

    Raises:
        UsageError: A value out of its range.

    Example:
        >>> ExitCostModel(exit_rates={"relu_1": 0.3}).overhead
        0.05
    """

    exit_rate_exponent: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    exit_rates: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    overhead: float = Field(default=0.05, ge=0, allow_inf_nan=False)


@final
class JointTraining(Settings):
    """Trains the network together with its exits: they get better, the last one may get worse.

    Attributes:
        backbone: ``train``, which tells the two kinds of training apart in a file.
        settings: Of the training.
        gradient_equilibrium: Whether the network's gradient does not grow with the number of exits
            behind it (Li et al. 2019; see `Equilibrium`); False takes the objective's mean over the
            exits as it is.

    Example:
        >>> JointTraining(settings=Training(epochs=20, lr=0.05)).gradient_equilibrium
        True
    """

    backbone: Literal["train"] = "train"
    settings: Training = Training(epochs=3, lr=0.02)
    gradient_equilibrium: bool = True


@final
class HeadTraining(Settings):
    """Trains the heads alone and leaves every other tensor as it is: the last exit stays exact.

    The choice for a network that is quantized, or whose accuracy must not change.

    Attributes:
        backbone: ``freeze``, which tells the two kinds of training apart in a file.
        settings: Of the training.

    Example:
        >>> HeadTraining(settings=Training(epochs=3, lr=0.05)).backbone
        'freeze'
    """

    backbone: Literal["freeze"] = "freeze"
    settings: Training = Training(epochs=3, lr=0.02)


@final
class ExitCalibration(Settings):
    """When samples leave: how sure an exit has to be, and what that may cost.

    Attributes:
        policy: What makes an exit sure; see `edgewright.runtime.exit_scores`. ``confidence`` is
            cheap and rarely beaten by much; ``patience`` needs no temperature.
        confidence_level: Probability, above 0.5 and below 1, that the drop holds on new data like
            the validation split's; None tunes on the split and guarantees nothing. 0.95 needs some
            thousand samples for a drop of 1 %.
        max_drop: Accuracy that the exits may cost on the validation split, as a fraction; with a
            ``confidence_level``, on data like it.
        points: More operating points by name, each with the drop it may cost. A guarantee holds for
            each by itself.

    Raises:
        UsageError: A value out of its range, or a guarantee that no number of samples can give.

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
    def _points_can_be_kept(self) -> Self:
        if DEFAULT_POINT in self.points:
            raise UsageError(f"ExitCalibration: the point {DEFAULT_POINT!r} is the one of "
                             "max_drop; give the other another name")
        drops = {"max_drop": self.max_drop, **self.points}
        unkept = [name for name, drop in drops.items() if drop == 0]
        if self.confidence_level is not None and unkept:
            raise UsageError(f"ExitCalibration: {', '.join(unkept)}: no number of samples can show "
                             "that leaving early costs 0; allow a drop above 0, or leave "
                             "confidence_level out")
        return self


@final
class EarlyExits(Settings):
    """Early exits along the network: where, with which heads, how trained, and when samples leave.

    How many exits pay depends on the network and on what its heads cost, so they are counted by
    default; a fixed number is refused by networks with fewer places. In a recipe's YAML::

        places: 2                                       # or auto, or [relu_1, relu_3]
        head: auto                                      # or {name: pooled, grid: 1}
        training: {backbone: freeze, settings: {epochs: 3, lr: 0.05}}
        calibration: {max_drop: 0.01, confidence_level: 0.95}

    Attributes:
        places: Number of early exits; ``auto`` for as many as are expected to save more than their
            heads cost; or names of the graph's calls to hang exits on, as `find_exit_places` lists
            them. What is not named is placed where the expected multiply-accumulates are fewest,
            see `plan_exits`.
        cost_model: What exits are expected to save and to cost.
        head: What computes an exit's logits: ``auto``, ``pooled``, ``convolutional``, ``token``,
            ``temporal`` (`AutoHead` and so on), or a `HeadDesign` of your own. ``auto`` takes for
            each tensor what fits it.
        training: `JointTraining`, `HeadTraining`, or None to leave the heads untrained (for a later
            stage to do). A `Training` alone is that of a joint one.
        calibration: The policy, and what leaving early may cost.

    Raises:
        UsageError: A value out of its range, or places that cannot be.

    Example:
        >>> EarlyExits(places=("relu_1", "relu_3")).head
        AutoHead(grid=2)
        >>> EarlyExits(places=2, training=HeadTraining(), calibration=ExitCalibration(
        ...     max_drop=0.01)).training.settings.epochs
        3
    """

    places: int | Literal["auto"] | tuple[str, ...] = "auto"
    cost_model: ExitCostModel = ExitCostModel()
    head: Annotated[HeadDesign, Choice(HEADS, HeadDesign)] = AutoHead()
    training: Annotated[JointTraining | HeadTraining,
                        Field(discriminator="backbone")] | None = JointTraining()
    calibration: ExitCalibration = ExitCalibration()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the calls to hang exits on; empty where they are chosen."""
        return self.places if isinstance(self.places, tuple) else ()

    @property
    def count(self) -> int | None:
        """How many exits there are; None for as many as pay."""
        if isinstance(self.places, int):
            return self.places
        return len(self.names) or None

    @field_validator("places", mode="before")
    @classmethod
    def _number_auto_or_names(cls, places: Any) -> Any:
        if places == "auto" or (type(places) is int and places >= 1):
            return places
        is_list = isinstance(places, Sequence) and not isinstance(places, str)
        if not is_list or not places or not all(isinstance(name, str) for name in places):
            raise UsageError("EarlyExits: places: expected a whole number from 1, 'auto', or names "
                             f"of calls, got {places!r}")
        if len(set(places)) < len(places):
            raise UsageError(f"EarlyExits: places names one twice: {', '.join(places)}")
        return tuple(places)

    @field_validator("training", mode="before")
    @classmethod
    def _joint_where_not_said(cls, training: Any) -> Any:
        return JointTraining(settings=training) if isinstance(training, Training) else training

    @model_validator(mode="after")
    def _policy_can_let_go(self) -> Self:
        if self.calibration.policy == "patience" and self.count == 1:
            raise UsageError("EarlyExits: patience waits for two exits in a row that agree, and "
                             "there is one; take more exits or another policy")
        return self
