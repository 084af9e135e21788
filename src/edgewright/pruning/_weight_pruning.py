"""The settings of weight pruning."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, Self, final

from pydantic import Field, model_validator

from edgewright.core import Settings
from edgewright.errors import UsageError
from edgewright.training import Training

_N_M_PATTERN: Final = re.compile(r"([1-9]\d*):([1-9]\d*)", re.ASCII)
_SPARSITY_TOLERANCE: Final = 1e-6  # for values that were rounded in a file


@final
class WeightPruning(Settings):
    """Pruning of single weights. Shapes do not change; zeros take less space in the bundle.

    Attributes:
        pattern: ``unstructured``, or ``N:M``, for example ``2:4``: at most N nonzero weights in
            every M consecutive ones along the input channels, at each position of the kernel (the
            layout of NVIDIA's sparse tensor cores and TensorRT; Mishra et al. 2021).
        sparsity: Fraction of the weights to set to zero, above 0 and below 1. An N:M pattern
            determines it, 1 - N/M. None prunes only the layers in ``layers``; it is the default if
            only ``layers`` is given.
        layers: Sparsity by the name or pattern of layers; None keeps a layer dense. If several
            patterns match, the first one applies. Other layers follow ``sparsity`` and ``scope``.
            Cannot be combined with an N:M pattern.
        criterion: ``magnitude`` keeps the largest weights (Han et al. 2015), ``movement`` those
            that training moves away from zero (Sanh et al. 2020), ``random`` a random choice, as a
            baseline for the others.
        scope: ``global`` ranks the weights of all layers together, and keeps at least one weight of
            each layer; ``layer`` prunes every layer to the same sparsity, as an N:M pattern does.
        schedule: ``one_shot`` prunes once and then trains the remaining weights; ``gradual``
            increases the sparsity during training (Zhu & Gupta 2017).
        end: Fraction of the training after which ``gradual`` reaches the full sparsity.
        every: Number of steps between two updates of a gradual mask.
        ignore: Names or patterns of layers to keep dense.
        training: The training schedule, or None to prune without training (``one_shot`` only).

    Raises:
        UsageError: A value is out of range, or settings contradict each other.

    Example:
        >>> WeightPruning(pattern="2:4").sparsity
        0.5
        >>> WeightPruning(criterion="random", layers={"conv1": 0.3}).sparsity is None
        True
        >>> WeightPruning(pattern="5:4")
        Traceback (most recent call last):
            ...
        edgewright.errors.SettingsError: pattern='5:4' is not valid; use 'unstructured', or N:M with N below M, such as '2:4'
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
        """N and M of the pattern; None if it is unstructured.

        Example:
            >>> WeightPruning(pattern="1:4").block
            (1, 4)
        """
        return _parse_block(self.pattern)

    @property
    def goal(self) -> str:
        """Text that describes what to set to zero."""
        goals = [f"{100 * sparsity:.0f} % of {name}"
                 for name, sparsity in self.layers.items() if sparsity]
        general = [] if self.sparsity is None else [f"{100 * self.sparsity:.0f} % of the weights"]
        return ", ".join([*general, *goals])

    @model_validator(mode="before")
    @classmethod
    def _derive_sparsity(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        pattern = values.get("pattern", "unstructured")
        block = _parse_block(pattern) if isinstance(pattern, str) else None
        if block is not None:
            return {"sparsity": 1 - block[0] / block[1], **values}
        return {"sparsity": None, **values} if values.get("layers") else values

    @model_validator(mode="after")
    def _check_layers(self) -> Self:
        for name, sparsity in self.layers.items():
            if sparsity is not None and not 0 < sparsity < 1:
                raise UsageError(f"layers: the sparsity of {name!r} is {sparsity:g}; expected a "
                                 "fraction above 0 and below 1, or None to keep the layer dense")
        if self.layers and self.block is not None:
            raise UsageError(f"layers={list(self.layers)} sets sparsities per layer, but "
                             f"pattern={self.pattern!r} has one sparsity for all layers; use "
                             "pattern='unstructured', or use ignore to keep layers dense")
        if self.sparsity is None and not any(self.layers.values()):
            raise UsageError("sparsity=None prunes only the layers in layers, and none of these "
                             "has a sparsity; give sparsity or layers")
        return self

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        pattern_sparsity = None if self.block is None else 1 - self.block[0] / self.block[1]
        if pattern_sparsity is not None and (
                self.sparsity is None
                or abs(self.sparsity - pattern_sparsity) > _SPARSITY_TOLERANCE):
            raise UsageError(f"pattern={self.pattern!r} has a sparsity of {pattern_sparsity:g}, "
                             f"not sparsity={self.sparsity}; omit sparsity")
        if pattern_sparsity is not None or (self.layers and self.sparsity is None):
            self.model_fields_set.discard("sparsity")  # derived from pattern or layers
        if self.criterion == "movement" and self.schedule == "one_shot":
            raise UsageError("criterion='movement' needs the changes of weights during training; "
                             "use schedule='gradual'")
        if self.schedule == "gradual" and self.training is None:
            raise UsageError("schedule='gradual' prunes during training; give training, or use "
                             "schedule='one_shot'")
        return self


def _parse_block(pattern: str) -> tuple[int, int] | None:
    if pattern == "unstructured":
        return None
    match = _N_M_PATTERN.fullmatch(pattern)
    if match is None or int(match[1]) >= int(match[2]):
        raise UsageError(f"pattern={pattern!r} is not valid; use 'unstructured', or N:M with N "
                         "below M, such as '2:4'")
    return int(match[1]), int(match[2])
