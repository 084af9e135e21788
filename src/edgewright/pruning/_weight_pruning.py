"""How single weights are pruned."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, Self, final

from pydantic import Field, model_validator

from edgewright.core import Settings
from edgewright.errors import UsageError
from edgewright.training import Training

_BLOCK: Final = re.compile(r"([1-9]\d*):([1-9]\d*)", re.ASCII)
_ROUNDING: Final = 1e-6  # of a sparsity that was written to a file


@final
class WeightPruning(Settings):
    """Pruning of single weights: the shapes stay, the zeros are stored small.

    Attributes:
        pattern: ``unstructured``, or ``N:M`` such as ``2:4``: at most N weights other than zero in
            every M that follow each other along the input channels, at each position of the kernel
            (the order of NVIDIA's sparse tensor cores and TensorRT; Mishra et al. 2021).
        sparsity: Share of the weights that become zero, above 0 and below 1; an N:M pattern
            brings its own, 1 - N/M.
        criterion: ``magnitude`` keeps the largest weights (Han et al. 2015), ``movement`` those
            that training moves away from zero (Sanh et al. 2020).
        scope: ``global`` ranks the weights of all layers together, and leaves each layer one at
            least; ``layer`` takes the same share of every layer, as an N:M pattern does.
        schedule: ``one_shot`` prunes at once and then trains what is left; ``gradual`` prunes more
            and more while it trains (Zhu & Gupta 2017).
        end: Share of the training after which ``gradual`` has reached the sparsity.
        every: Steps between two updates of a gradual mask.
        ignore: Names or patterns of layers whose weights stay.
        training: The schedule, or None to prune without any (``one_shot`` only).

    Raises:
        UsageError: A value out of its range, or settings that contradict each other.

    Example:
        >>> WeightPruning(pattern="2:4").sparsity
        0.5
        >>> WeightPruning(pattern="5:4")
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: pattern='5:4' is not understood; write 'unstructured', or N:M with N below M, such as '2:4'
    """  # noqa: E501 - the message is one line

    pattern: str = "unstructured"
    sparsity: float = Field(default=0.5, gt=0, lt=1)
    criterion: Literal["magnitude", "movement"] = "magnitude"
    scope: Literal["global", "layer"] = "global"
    schedule: Literal["one_shot", "gradual"] = "gradual"
    end: float = Field(default=0.7, gt=0, le=1)
    every: int = Field(default=10, ge=1)
    ignore: tuple[str, ...] = ()
    training: Training | None = Training(epochs=5, lr=0.01)

    @property
    def block(self) -> tuple[int, int] | None:
        """N and M of the pattern; None where it is unstructured.

        Example:
            >>> WeightPruning(pattern="1:4").block
            (1, 4)
        """
        return _block(self.pattern)

    @model_validator(mode="before")
    @classmethod
    def _sparsity_of_pattern(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("pattern"), str):
            return values
        block = _block(values["pattern"])
        return values if block is None else {"sparsity": 1 - block[0] / block[1], **values}

    @model_validator(mode="after")
    def _agree(self) -> Self:
        own = None if self.block is None else 1 - self.block[0] / self.block[1]
        if own is not None and abs(self.sparsity - own) > _ROUNDING:
            raise UsageError(f"pattern={self.pattern!r} makes {own:g} of the weights zero, not "
                             f"sparsity={self.sparsity:g}; leave sparsity out")
        if own is not None:
            self.model_fields_set.discard("sparsity")   # it goes with the pattern, if that changes
        if self.criterion == "movement" and self.schedule == "one_shot":
            raise UsageError("criterion='movement' looks at how training moves the weights; use it "
                             "with schedule='gradual'")
        if self.schedule == "gradual" and self.training is None:
            raise UsageError("schedule='gradual' prunes while it trains; give a training, or use "
                             "schedule='one_shot'")
        return self


def _block(pattern: str) -> tuple[int, int] | None:
    if pattern == "unstructured":
        return None
    found = _BLOCK.fullmatch(pattern)
    if found is None or int(found[1]) >= int(found[2]):
        raise UsageError(f"pattern={pattern!r} is not understood; write 'unstructured', or N:M "
                         "with N below M, such as '2:4'")
    return int(found[1]), int(found[2])
