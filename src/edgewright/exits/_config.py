"""How early exits are added."""

from __future__ import annotations

from typing import Literal, final

from pydantic import Field

from edgewright.training import Settings, Training


@final
class EarlyExits(Settings):
    """Early exits along the network.

    Attributes:
        count: Number of early exits, placed at equal shares of the multiply-accumulates.
        pool: Side of the grid a head pools a picture to; 1 forgets where things are.
        max_drop: Points of accuracy the exits may cost on the validation split, as a fraction.
        backbone: ``train`` trains the network together with its exits, which makes these better and
            may cost the last one; ``freeze`` trains the heads alone, and leaves every other tensor
            as it is.
        training: The schedule, or None to leave the heads untrained (for a later stage to do).

    Raises:
        UsageError: A value out of its range.

    Example:
        >>> EarlyExits(max_drop=0.005).count
        2
    """

    count: int = Field(default=2, ge=1)
    pool: int = Field(default=2, ge=1)
    max_drop: float = Field(default=0.005, ge=0, lt=1)
    backbone: Literal["train", "freeze"] = "train"
    training: Training | None = Training(epochs=3, lr=0.02)
