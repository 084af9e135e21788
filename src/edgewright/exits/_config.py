"""How early exits are added."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self, final

from pydantic import Field, field_validator, model_validator

from edgewright.core import ExitPolicy, Settings
from edgewright.errors import UsageError
from edgewright.exits._heads import HeadKind
from edgewright.training import Training

DEFAULT_POINT: Final = "default"


@final
class EarlyExits(Settings):
    """Early exits along the network.

    How many pay depends on the network and on what its heads cost, so they are counted by default;
    a fixed number is refused by networks with fewer places.

    Attributes:
        count: Number of early exits, or ``auto`` for as many as promise to save more than their
            heads cost; placed where the expected multiply-accumulates are fewest, see
            `plan_exits`.
        at: Names of the graph's calls to hang exits on, in place of a choice by cost;
            `exit_places` lists them.
        head: What computes an exit's logits: ``pooled``, means over a grid and a linear layer;
            ``convolutional``, separable convolutions of stride two before that, each twice as
            deep, as many as cost little of the network; ``token``, the mean over the tokens, a
            layer norm and a linear layer; ``temporal``, means and deviations over time and a
            linear layer. ``auto`` takes, for each tensor, what fits it: ``convolutional`` for
            pictures while one costs little, ``temporal`` for (N, channels, time), ``token`` where
            the channels are last, else ``pooled``.
        pool: Side of the grid a head pools a picture to; 1 forgets where things are.
        promise: Modelled share of the samples that can leave by an exit behind the share ``c`` of
            the work: ``c ** promise``. The greater, the harder the samples are held to be.
        shares: Measured such shares by the names of calls, in place of the model; between them
            they are taken on straight lines.
        overhead: What an exit costs everyone who reaches it beside its head, as a share of the
            network's multiply-accumulates: a call of the engine and the decision.
        max_drop: Points of accuracy the exits may cost on the validation split, as a fraction; with
            a ``confidence``, on data like it.
        policy: What makes an exit sure; see `edgewright.runtime.exit_scores`.
        confidence: Chance, above 0.5 and below 1, that the drop holds on new data like the
            validation split's; None tunes on the split and promises nothing.
        points: More operating points by name, each with the drop it may cost. What is promised is
            promised of each by itself.
        backbone: ``train`` trains the network together with its exits, which makes these better and
            may cost the last one; ``freeze`` trains the heads alone, and leaves every other tensor
            as it is.
        balance: ``equilibrium`` lets the network's gradient not grow with the number of exits
            behind it (Li et al. 2019; see `Equilibrium`); ``none`` takes the objective's mean
            over the exits as it is. A frozen network has no gradient to balance.
        training: The schedule, or None to leave the heads untrained (for a later stage to do).

    Raises:
        UsageError: A value out of its range, or a number of exits that is not that of ``at``.

    Example:
        >>> EarlyExits(max_drop=0.005).count
        'auto'
        >>> EarlyExits(at=("relu_1", "relu_3")).head
        'auto'
    """

    count: int | Literal["auto"] = "auto"
    at: tuple[str, ...] = ()
    head: Literal["auto"] | HeadKind = "auto"
    pool: int = Field(default=2, ge=1)
    promise: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    shares: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    overhead: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    max_drop: float = Field(default=0.005, ge=0, lt=1)
    policy: ExitPolicy = "confidence"
    confidence: float | None = Field(default=None, gt=0.5, lt=1)
    points: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(default_factory=dict)
    backbone: Literal["train", "freeze"] = "train"
    balance: Literal["equilibrium", "none"] = "equilibrium"
    training: Training | None = Training(epochs=3, lr=0.02)

    @model_validator(mode="after")
    def _policy_can_let_go(self) -> Self:
        if self.policy == "patience" and 1 in (self.count, len(self.at)):
            raise UsageError("EarlyExits: patience waits for two exits in a row that agree, and "
                             "there is one; take more exits or another policy")
        return self

    @model_validator(mode="after")
    def _points_can_be_kept(self) -> Self:
        if DEFAULT_POINT in self.points:
            raise UsageError(f"EarlyExits: the point {DEFAULT_POINT!r} is the one of max_drop; "
                             "give the other another name")
        drops = {"max_drop": self.max_drop, **self.points}
        unkept = [name for name, drop in drops.items() if drop == 0]
        if self.confidence is not None and unkept:
            raise UsageError(f"EarlyExits: {', '.join(unkept)}: no number of samples can show that "
                             "leaving early costs 0; allow a drop above 0, or leave confidence out")
        return self

    @field_validator("count", mode="before")
    @classmethod
    def _a_number_or_auto(cls, count: Any) -> Any:
        if count != "auto" and (type(count) is not int or count < 1):
            raise UsageError(f"EarlyExits: count: expected a whole number from 1, or 'auto', got "
                             f"{count!r}")
        return count

    @model_validator(mode="after")
    def _places_agree(self) -> Self:
        listed = ", ".join(self.at)
        if len(set(self.at)) < len(self.at):
            raise UsageError(f"EarlyExits: at names a place twice: {listed}")
        if self.at and self.count not in ("auto", len(self.at)):
            raise UsageError(f"EarlyExits: count={self.count} and {len(self.at)} places in at "
                             f"({listed}) do not match; leave count out")
        return self
