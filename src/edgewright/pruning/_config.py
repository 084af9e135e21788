"""The settings of channel pruning."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self, final

from pydantic import Field, model_validator

from edgewright.channels import LegalWidths, RoundTo
from edgewright.core import Settings
from edgewright.errors import UsageError

_WEIGHT_BASED: Final = frozenset({"l1", "l2", "magnitude", "batch_norm", "geometric_median", "lamp",
                                "random"})
# Scores estimate changes of the loss or the logits, so they can be compared across layers.
_LOSS_BASED: Final = frozenset({"taylor", "fisher", "obd", "gauss_newton"})
# Settings that choose widths, so they contradict explicit ones.
_CHOOSING: Final = ("target", "ratio", "allocation", "least_width", "normalize", "steps",
                    "round_to")


@final
class ChannelPruning(Settings):
    """Structured pruning of channels.

    Attributes:
        criterion: How the importance of a channel is measured, over its whole group. From weights:
            ``l1``, ``l2``, ``magnitude`` (squared L2; Li 2017, grouped as in Fang 2023),
            ``batch_norm`` (scales; Liu 2017), ``geometric_median`` (He 2019), ``lamp`` (Lee 2021).
            From the effect of its removal on the loss: ``taylor`` (Molchanov 2019), ``fisher``
            (Theis 2018, Liu 2021), ``obd`` (LeCun 1990); or on the logits: ``gauss_newton``. From
            its activations: ``activation``, ``apoz`` (Hu 2016), ``redundancy`` (how well the other
            channels can reproduce it). Or ``random``, as a baseline. Without data, use
            ``magnitude``.
        target: What ``ratio`` counts: multiply-accumulates, parameters, channels, ``ram`` (peak
            bytes of activations) or ``latency`` (from a table of layers, measured on ONNX Runtime).
        ratio: Fraction of the target to remove, above 0 and below 1.
        allocation: ``solved`` maximizes the summed score of the kept channels (integer
            programming); ``global`` removes the least important channels of all groups, ``uniform``
            the same fraction of every group.
        least_width: Smallest fraction of its channels that every group keeps. Keep it above 0
            except in experiments: scores are not reliable once most of a layer is removed. Lower it
            if a ratio cannot be reached and training follows; raise it (0.25) if no training
            follows.
        normalize: Divide scores by their group's mean before groups are compared. None: only for
            criteria whose scale differs between layers, not for those that estimate a change of
            the loss or of the logits.
        steps: Number of equal steps to reach the ratio; scores are computed again in each. If
            training follows each step, more steps lose less accuracy.
        round_to: Pruned tensor sizes are multiples of this, if they are large enough. Integer
            kernels on x86 are fastest with 16. ``auto`` is the largest of 16, 8, 4 and 2 that
            divides a dimension into at least four steps, else 1: 16 from 64 channels on, 8 from 32,
            4 from 16, 2 from 8.
        widths: Number of channels to keep, by group, instead of a ratio: for example
            ``{"layer1.0.conv1": 8}``. A group is named as `find_groups` prints it, or by any layer
            whose output channels it has; groups without a name keep all their channels. The
            criterion still ranks the channels of each group. Leave the settings that choose widths
            (``target``, ``ratio``, ``allocation``, ``least_width``, ``normalize``, ``steps``,
            ``round_to``) at their defaults, which have no effect then.
        ignore: Names or patterns of layers whose output channels are kept; for a parameter or
            buffer that is not a layer's weight, all its dimensions are kept.
        samples: Number of training samples for data-driven criteria and for ``compensate``.
        compensate: Fit the layers that read removed channels by least squares to reproduce their
            outputs (He 2017), and measure batch norm statistics again; takes a few passes over
            ``samples``. None: only if there is a task. It is done after every step if the
            criterion uses data or the program is trained between steps. Otherwise it is done once,
            after the last step, so that scores are those of the trained weights.
        ridge: How strongly ``compensate`` keeps weights near the trained ones, as a multiple of the
            mean variance of their inputs. Use 0.01 if no training follows and 1 if it does, because
            training profits less from a fit that is far away.
        prove_export: Export the result to ONNX and compare ONNX Runtime's outputs with it, in
            addition to the proof of every slice.

    Raises:
        UsageError: A value is out of range, or ``widths`` is combined with a setting that chooses
            widths.

    Example:
        >>> ChannelPruning(ratio=1.5)
        Traceback (most recent call last):
            ...
        edgewright.errors.SettingsError: ChannelPruning: ratio: Input should be less than 1, got 1.5
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
    widths: dict[str, Annotated[int, Field(ge=1)]] | None = Field(default=None, min_length=1)
    ignore: tuple[str, ...] = ()
    samples: int = Field(default=1024, ge=1)
    compensate: bool | None = None
    ridge: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    prove_export: bool = True

    @model_validator(mode="after")
    def _check_round_to(self) -> Self:
        if self.round_to != "auto" and self.round_to < 1:
            raise UsageError("ChannelPruning: round_to: Input should be greater than or equal to 1 "
                             f"or 'auto', got {self.round_to}")
        return self

    @model_validator(mode="after")
    def _check_widths(self) -> Self:
        defaults = type(self).model_fields
        given = [name for name in _CHOOSING if getattr(self, name) != defaults[name].default]
        if self.widths is not None and given:
            raise UsageError("ChannelPruning: widths are given, so nothing is left to choose with "
                             f"{', '.join(given)}; omit either")
        return self

    @property
    def uses_data(self) -> bool:
        """Whether the criterion needs samples."""
        return self.criterion not in _WEIGHT_BASED

    @property
    def uses_predictions(self) -> bool:
        """Whether the criterion needs the loss or the predictions."""
        return self.criterion in _LOSS_BASED

    @property
    def legal_widths(self) -> LegalWidths:
        """The widths that groups may have after pruning."""
        return LegalWidths(self.round_to, self.least_width)

    @property
    def normalizes_scores(self) -> bool:
        """Whether scores are normalized: ``normalize``, or its default for the criterion."""
        if self.normalize is None:
            return self.criterion not in _LOSS_BASED
        return self.normalize
