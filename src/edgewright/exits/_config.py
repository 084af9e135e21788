"""How early exits are added."""

from __future__ import annotations

from typing import final

from pydantic import Field

from edgewright.training import Settings, Training


@final
class EarlyExits(Settings):
    """Early exits along the network.

    Attributes:
        count: Number of early exits, placed at equal shares of the multiply-accumulates.
        pool: Side of the grid a head pools a picture to; 1 forgets where things are.
        max_drop: Points of accuracy the exits may cost on the validation split, as a fraction.
        training: Schedule on which exits and backbone are trained together, or None to leave the
            heads untrained (to be trained by a later stage).

    Raises:
        UsageError: A value out of its range.

    Example:
        >>> EarlyExits(max_drop=0.005).count
        2
    """

    count: int = Field(default=2, ge=1)
    pool: int = Field(default=2, ge=1)
    max_drop: float = Field(default=0.005, ge=0, lt=1)
    training: Training | None = Training(epochs=3, lr=0.02)
