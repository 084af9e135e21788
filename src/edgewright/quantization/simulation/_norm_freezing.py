"""Batch norms in quantisation-aware training: statistics that rest, gains that stay positive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edgewright.capture import CapturedModule, freeze_norms
from edgewright.graph import argument, stored_tensors
from edgewright.program import Program, foldable_norm, per_output
from edgewright.training import Step, StepHook

_LEAST_GAIN: Final = 2.0**-14


@final
class FreezeNorms(StepHook):
    """Freezes the running statistics of batch norms, and uses them, for the rest of the training.

    Batch statistics move with every step, so that the network in evaluation is not quite the one
    that is trained; at low bits the difference tips roundings (Krishnamoorthi 2018, section 3.2.2).

    Args:
        share: Of the training's steps, after which statistics rest; 0 is from the start, 1 never.

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
    def admits_start(self) -> bool:
        """The statistics that were given are those of the deployed network."""
        return True

    def state(self) -> dict[str, Tensor]:
        """Whether the statistics rest."""
        return {"frozen": torch.tensor(self._frozen)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Freeze what was frozen."""
        if bool(state["frozen"]):
            self._freeze()

    def _freeze(self) -> None:
        self._frozen = True
        for module in self._modules:
            freeze_norms(module)


@final
class KeepGainsPositive(StepHook):
    """Keeps batch norms' gains above zero, so that folding a norm flips the sign of no weight.

    A grid whose limits are -8 and 7 does not hold the negative of each of its integers: folded
    with a negative gain, weights that were trained on it would lie off it.

    Args:
        gains: Names of the gains; `gains_of_layers` finds them.

    Example:
        >>> KeepGainsPositive(["norm.weight"]).name
        'KeepGainsPositive(norm.weight)'
    """

    def __init__(self, gains: Iterable[str]) -> None:
        self._names = tuple(gains)
        self._held: list[Tensor] = []

    @property
    def name(self) -> str:
        """Identifies the gains in a checkpoint."""
        return f"KeepGainsPositive({', '.join(self._names)})"

    def start(self, module: nn.Module) -> None:
        """Find the gains in the captured networks of ``module``."""
        networks = [part for part in module.modules() if isinstance(part, GraphModule)]
        named = [dict(part.named_parameters(remove_duplicate=False)) for part in networks]
        self._held = [part[name] for part in named for name in self._names if name in part]

    @property
    def admits_start(self) -> bool:
        """No gain is negative then; see `orient_norms`."""
        return True

    def after_step(self, step: Step) -> None:
        """Lift gains that are too small or negative."""
        del step
        with torch.no_grad():
            for gain in self._held:
                gain.clamp_(min=_LEAST_GAIN)


def gains_of_layers(program: Program) -> dict[str, str]:
    """The gain of the batch norm after each layer that has one of its own, by the layer's weight.

    Args:
        program: In floating point, its norms not folded.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
        >>> gains_of_layers(Program.capture(model, torch.zeros(2, 2)))
        {'0.weight': '1.weight'}
    """
    gains = ((layer, argument(norm, "weight")) for layer, norm in _normed_layers(program))
    return {str(argument(layer, "weight").target): str(gain.target) for layer, gain in gains
            if isinstance(gain, Node)}


def orient_norms(program: Program) -> Program:
    """The same function, with no negative gain in a batch norm that follows a layer of its own.

    Where the gain of a channel is negative, the signs of the gain, of the running mean, and of
    the layer's weights and bias of that channel change; the results are the same to the bit.

    Args:
        program: In floating point, its norms not folded; left as it is.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
        >>> _ = model[1].weight.data.neg_()
        >>> orient_norms(Program.capture(model, torch.zeros(2, 2))).graph_module.state_dict()[
        ...     "1.weight"]
        tensor([1., 1., 1.])
    """
    oriented = program.copy()
    tensors = stored_tensors(oriented.graph_module)
    with torch.no_grad():
        for layer, norm in _normed_layers(oriented):
            gain = argument(norm, "weight")
            if not isinstance(gain, Node):
                continue
            signs = torch.where(tensors[str(gain.target)] < 0, -1.0, 1.0)
            for node in (argument(layer, "weight"), argument(layer, "bias"), gain,
                         argument(norm, "running_mean")):
                if isinstance(node, Node):
                    tensor = tensors[str(node.target)]
                    tensor.mul_(signs if tensor.ndim == 1 else per_output(layer, signs, tensor))
    return oriented


def _normed_layers(program: Program) -> Iterator[tuple[Node, Node]]:
    for layer in program.calls():
        norm = foldable_norm(layer)
        if norm is not None:
            yield layer, norm
