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
            brings its own, 1 - N/M. None leaves all layers whole but those in ``layers``, and is
            what it is where only these are given.
        layers: Names or patterns of layers with a sparsity of their own, or None for a layer that
            stays whole; of several patterns that match, the first holds. The others follow
            ``sparsity`` and ``scope``. Not with an N:M pattern.
        criterion: ``magnitude`` keeps the largest weights (Han et al. 2015), ``movement`` those
            that training moves away from zero (Sanh et al. 2020), ``random`` a draw by the seed,
            against which the others are judged.
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
        >>> WeightPruning(criterion="random", layers={"conv1": 0.3}).sparsity is None
        True
        >>> WeightPruning(pattern="5:4")
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: pattern='5:4' is not understood; write 'unstructured', or N:M with N below M, such as '2:4'
    """  # noqa: E501 - the message is one line

    pattern: str = "unstructured"
    sparsity: float | None = Field(default=0.5, gt=0, lt=1)
    layers: dict[str, float | None] = Field(default_factory=dict)
    criterion: Literal["magnitude", "movement", "random"] = "magnitude"
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

    @property
    def goal(self) -> str:
        """What becomes zero, in words."""
        goals = [f"{100 * share:.0f} % of {name}" for name, share in self.layers.items() if share]
        general = [] if self.sparsity is None else [f"{100 * self.sparsity:.0f} % of the weights"]
        return ", ".join([*general, *goals])

    @model_validator(mode="before")
    @classmethod
    def _sparsity_of_pattern(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        pattern = values.get("pattern", "unstructured")
        block = _block(pattern) if isinstance(pattern, str) else None
        if block is not None:
            return {"sparsity": 1 - block[0] / block[1], **values}
        return {"sparsity": None, **values} if values.get("layers") else values

    @model_validator(mode="after")
    def _layers_have_shares(self) -> Self:
        for name, share in self.layers.items():
            if share is not None and not 0 < share < 1:
                raise UsageError(f"layers: {name!r} is given {share:g}; write the share of its "
                                 "weights that become zero, above 0 and below 1, or None to leave "
                                 "it whole")
        if self.layers and self.block is not None:
            raise UsageError(f"layers={list(self.layers)} have a sparsity of their own, and "
                             f"pattern={self.pattern!r} makes it the same everywhere; use "
                             "pattern='unstructured', or ignore for layers that stay whole")
        if self.sparsity is None and not any(self.layers.values()):
            raise UsageError("sparsity=None prunes the layers in layers alone, and none is there; "
                             "give a sparsity, or layers with theirs")
        return self

    @model_validator(mode="after")
    def _agree(self) -> Self:
        own = None if self.block is None else 1 - self.block[0] / self.block[1]
        if own is not None and (self.sparsity is None or abs(self.sparsity - own) > _ROUNDING):
            raise UsageError(f"pattern={self.pattern!r} makes {own:g} of the weights zero, not "
                             f"sparsity={self.sparsity}; leave sparsity out")
        if own is not None or (self.layers and self.sparsity is None):
            self.model_fields_set.discard("sparsity")  # it follows from the pattern or the layers
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
