"""How a program is pruned."""

from __future__ import annotations

from typing import Final, Literal, Self, final

from pydantic import Field, model_validator

from edgewright.channels import LegalWidths, RoundTo
from edgewright.core import Settings
from edgewright.errors import UsageError

_BY_WEIGHTS: Final = frozenset({"l1", "l2", "magnitude", "batch_norm", "geometric_median", "lamp",
                                "random"})
# Criteria whose scores are changes of the loss or the logits: they compare across layers.
_ABSOLUTE: Final = frozenset({"taylor", "fisher", "obd", "gauss_newton"})


@final
class ChannelPruning(Settings):
    """Structured pruning of channels.

    Attributes:
        criterion: What a channel is worth, gathered over its whole group. By weights: ``l1``,
            ``l2``, ``magnitude`` (squared L2; Li 2017, grouped as in Fang 2023), ``batch_norm``
            (scales; Liu 2017), ``geometric_median`` (He 2019), ``lamp`` (Lee 2021). By what its
            removal does to the loss: ``taylor`` (Molchanov 2019), ``fisher`` (Theis 2018, Liu
            2021), ``obd`` (LeCun 1990); or to the logits: ``gauss_newton``. By what it puts out:
            ``activation``, ``apoz`` (Hu 2016), ``redundancy`` (what the other channels can
            reproduce). Or ``random``.
        target: What ``ratio`` counts: multiply-accumulates, parameters, channels, ``ram`` (peak
            bytes of activations) or ``latency`` (a table of layers, measured on ONNX Runtime).
        ratio: Share of the target to remove, above 0 and below 1.
        allocation: ``solved`` keeps the best summed score there is (integer programming);
            ``global`` takes the least important channels wherever they are, ``uniform`` the same
            share of every group.
        least_width: Share of its channels that every group keeps at least, above 0 in all but
            experiments: scores say little of what is left once most of a layer is gone. Lower it
            where a ratio cannot be reached and training follows; raise it (0.25) where none does.
        normalize: Divide scores by their group's mean before groups are compared. Left out, it is
            done for the criteria whose scale differs from layer to layer, and not for those that
            estimate a change of the loss or of the logits.
        steps: In how many equal steps the ratio is approached, scores taken anew after each.
        round_to: Sizes of tensors that are cut are left a multiple of this, where they are that
            large. Integer kernels on x86 reward 16. ``auto`` is the largest of 16, 8, 4 and 2 that
            divides a dimension into four steps at least, else 1: 16 from 64 channels on, 8 from 32,
            4 from 16, 2 from 8.
        ignore: Names or patterns of layers whose output channels must stay; of a parameter or
            buffer that is no layer's weight, all its dimensions.
        samples: Training samples the data-driven criteria, and ``compensate``, look at.
        compensate: Fit the layers that read removed channels, by least squares, to put out what
            they did (He 2017), and measure batch norms anew; costs a few passes over ``samples``.
            Left out, it is done where there is a task. After every step where the next one's
            scores look at data, and else once, after the last: norms are those of the weights that
            training left.
        ridge: How strongly ``compensate`` holds weights to those that training left, as a multiple
            of the mean variance of what they read: 0.01 where no training follows, 1 where one
            does (of a far fit it makes less).
        prove_export: Translate what is left to ONNX and hold ONNX Runtime's outputs against it,
            besides the proof of every slice.

    Raises:
        UsageError: A value out of its range.

    Example:
        >>> ChannelPruning(ratio=1.5)
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: ChannelPruning: ratio: Input should be less than 1, got 1.5
    """

    criterion: Literal["l1", "l2", "magnitude", "batch_norm", "geometric_median", "lamp", "taylor",
                       "fisher", "obd", "gauss_newton", "activation", "apoz", "redundancy",
                       "random"] = "gauss_newton"
    target: Literal["macs", "params", "channels", "ram", "latency"] = "macs"
    ratio: float = Field(default=0.5, gt=0, lt=1)
    allocation: Literal["uniform", "global", "solved"] = "solved"
    least_width: float = Field(default=0.125, ge=0, le=1)
    normalize: bool | None = None
    steps: int = Field(default=1, ge=1)
    round_to: RoundTo = "auto"
    ignore: tuple[str, ...] = ()
    samples: int = Field(default=1024, ge=1)
    compensate: bool | None = None
    ridge: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    prove_export: bool = True

    @model_validator(mode="after")
    def _rounds_to_a_size(self) -> Self:
        if self.round_to != "auto" and self.round_to < 1:
            raise UsageError("ChannelPruning: round_to: Input should be greater than or equal to 1 "
                             f"or 'auto', got {self.round_to}")
        return self

    @property
    def looks_at_data(self) -> bool:
        """Whether the criterion needs samples."""
        return self.criterion not in _BY_WEIGHTS

    @property
    def looks_at_logits(self) -> bool:
        """Whether the criterion asks what happens to a classifier's loss or logits."""
        return self.criterion in _ABSOLUTE

    @property
    def legal_widths(self) -> LegalWidths:
        """The widths that groups may be left with."""
        return LegalWidths(self.round_to, self.least_width)

    @property
    def normalizes(self) -> bool:
        """What ``normalize`` comes to."""
        if self.normalize is None:
            return self.criterion not in _ABSOLUTE
        return self.normalize
