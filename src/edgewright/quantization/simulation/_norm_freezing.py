"""Batch norms in quantization-aware training: freeze statistics, keep gains positive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edgewright.capture import CapturedModule, freeze_norms
from edgewright.graph import argument, stored_tensors
from edgewright.program import Program, expand_per_output, foldable_norm
from edgewright.training import Step, StepHook

_LEAST_GAIN: Final = 2.0**-14


@final
class FreezeNorms(StepHook):
    """Freezes the running statistics of batch norms and uses them for the rest of the training.

    Batch statistics change with every step, so the network in evaluation differs slightly from the
    network that is trained; with few bits the difference changes roundings (Krishnamoorthi 2018,
    section 3.2.2).

    Args:
        share: Fraction of the training steps after which statistics are frozen; 0 freezes them from
            the start, 1 never.

    Example:
        >>> FreezeNorms(0.5).name
        'FreezeNorms(0.5)'
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._modules: list[CapturedModule] = []
        self._frozen = False

    @property
    def name(self) -> str:
        """Identifies the share in a checkpoint."""
        return f"FreezeNorms({self._share:g})"

    def start(self, module: nn.Module) -> None:
        """Find the captured networks in ``module``."""
        self._modules = [part for part in module.modules() if isinstance(part, CapturedModule)]
        self._frozen = False
        if self._share == 0:
            self._freeze()

    def after_step(self, step: Step) -> None:
        """Freeze once the share is reached."""
        if not self._frozen and step.progress >= self._share:
            self._freeze()

    @property
    def may_keep_initial_weights(self) -> bool:
        """True: the initial statistics are those of the deployed network."""
        return True

    def state(self) -> dict[str, Tensor]:
        """Whether the statistics are frozen."""
        return {"frozen": torch.tensor(self._frozen)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Freeze the statistics if they were frozen."""
        if bool(state["frozen"]):
            self._freeze()

    def _freeze(self) -> None:
        self._frozen = True
        for module in self._modules:
            freeze_norms(module)


@final
class KeepGainsPositive(StepHook):
    """Keeps the gains of batch norms positive, so that folding a norm never negates weights.

    A grid with the limits -8 and 7 does not contain the negative of each of its integers, so
    weights trained on it would leave the grid when a negative gain is folded.

    Args:
        gains: Names of the gains; see `find_norm_gains`.

    Example:
        >>> KeepGainsPositive(["norm.weight"]).name
        'KeepGainsPositive(norm.weight)'
    """

    def __init__(self, gains: Iterable[str]) -> None:
        self._names = tuple(gains)
        self._gains: list[Tensor] = []

    @property
    def name(self) -> str:
        """Identifies the gains in a checkpoint."""
        return f"KeepGainsPositive({', '.join(self._names)})"

    def start(self, module: nn.Module) -> None:
        """Find the gains in the captured networks of ``module``."""
        networks = [part for part in module.modules() if isinstance(part, GraphModule)]
        named = [dict(part.named_parameters(remove_duplicate=False)) for part in networks]
        self._gains = [part[name] for part in named for name in self._names if name in part]

    @property
    def may_keep_initial_weights(self) -> bool:
        """True: no gain is negative at the start; see `make_gains_positive`."""
        return True

    def after_step(self, step: Step) -> None:
        """Raise gains that are too small or negative to the minimum."""
        del step
        with torch.no_grad():
            for gain in self._gains:
                gain.clamp_(min=_LEAST_GAIN)


def find_norm_gains(program: Program) -> dict[str, str]:
    """Names of the gains of batch norms that can be folded into a layer, by the layer's weight.

    Args:
        program: A program in floating point with unfolded norms.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
        >>> find_norm_gains(Program.capture(model, torch.zeros(2, 2)))
        {'0.weight': '1.weight'}
    """
    gains = ((layer, argument(norm, "weight")) for layer, norm in _layers_with_norm(program))
    return {str(argument(layer, "weight").target): str(gain.target) for layer, gain in gains
            if isinstance(gain, Node)}


def make_gains_positive(program: Program) -> Program:
    """Make the gains of batch norms that follow a layer positive; the function stays the same.

    Where the gain of a channel is negative, the gain, the running mean, and the layer's weights and
    bias of that channel are negated; the results are bit-identical.

    Args:
        program: A program in floating point with unfolded norms; not modified.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
        >>> _ = model[1].weight.data.neg_()
        >>> positive = make_gains_positive(Program.capture(model, torch.zeros(2, 2)))
        >>> positive.graph_module.state_dict()["1.weight"]
        tensor([1., 1., 1.])
    """
    oriented = program.copy()
    tensors = stored_tensors(oriented.graph_module)
    with torch.no_grad():
        for layer, norm in _layers_with_norm(oriented):
            gain = argument(norm, "weight")
            if not isinstance(gain, Node):
                continue
            signs = torch.where(tensors[str(gain.target)] < 0, -1.0, 1.0)
            for node in (argument(layer, "weight"), argument(layer, "bias"), gain,
                         argument(norm, "running_mean")):
                if isinstance(node, Node):
                    tensor = tensors[str(node.target)]
                    tensor.mul_(signs if tensor.ndim == 1
                                else expand_per_output(layer, signs, tensor))
    return oriented


def _layers_with_norm(program: Program) -> Iterator[tuple[Node, Node]]:
    for layer in program.calls():
        norm = foldable_norm(layer)
        if norm is not None:
            yield layer, norm
