"""Pruning more and more weights while they are trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias, final

import torch
from torch import Tensor, nn

from edgewright.pruning._masks import Masks, block_mask, mask_lowest
from edgewright.pruning._weight_pruning import WeightPruning
from edgewright.training import Step, StepHook

Shares: TypeAlias = Mapping[str, float | None]


def masks_for(scores: Mapping[str, Tensor], shares: Shares, config: WeightPruning,
              progress: float = 1.0) -> Masks:
    """True where a weight stays, with ``progress`` of the sparsity reached.

    A block of an N:M pattern loses one weight after the other.

    Args:
        scores: What each weight is worth.
        shares: The sparsity of each; None where it follows the config's.
        config: Pattern, sparsity, scope.
        progress: Share of the sparsity, 0 to 1.
    """
    general = progress * (config.sparsity or 0.0)
    if config.block is not None:
        size = config.block[1]
        keep = size - math.floor(general * size + 1e-9)
        return {name: block_mask(values, keep, size) for name, values in scores.items()}
    masks: Masks = {}
    others = {name: values for name, values in scores.items() if shares[name] is None}
    if others:
        masks |= mask_lowest(others, general, config.scope)
    for name, values in scores.items():
        own = shares[name]
        if own is not None:
            masks |= mask_lowest({name: values}, progress * own, "layer")
    return {name: masks[name] for name in scores}


def random_scores(weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """A random score for every weight."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(weight.shape, generator=generator).to(weight.device)
            for name, weight in weights.items()}


@final
class GradualMask(StepHook):
    """Masks that grow along a cubic schedule, by magnitude, by movement or by a draw.

    Zhu & Gupta 2017, eq. 1, from no sparsity at all, over the first ``end`` of the run's T steps,
    updated every few steps::

        s(t) = s_final * (1 - (1 - t / (end * T))^3)

    By magnitude, a masked weight is zero and stays so. By movement (Sanh et al. 2020, eq. 2-3,
    with its hard top-v selection), a masked weight keeps its value aside and may come back; what a
    weight w is worth is ``-sum over the steps of w * dL/dw``, with the gradient at the masked
    network (straight-through).

    Args:
        shares: The weights, by their names in the module, each with a sparsity of its own, or
            None where it follows the config's.
        config: Pattern, sparsity, criterion, scope, schedule.
        seed: Of the draw.
    """

    def __init__(self, shares: Shares, config: WeightPruning, seed: int = 0) -> None:
        self._shares, self._config, self._seed = dict(shares), config, seed
        self._drawn: dict[str, Tensor] = {}
        self._weights: dict[str, nn.Parameter] = {}
        self._masks: Masks = {}
        self._moved: dict[str, Tensor] = {}
        self._aside: dict[str, Tensor] = {}

    @property
    def name(self) -> str:
        """Identifies weights and settings in a checkpoint."""
        settings = self._config.model_dump_json(exclude={"training", "ignore"})
        seed = f", seed {self._seed}" if self._config.criterion == "random" else ""
        return f"GradualMask({settings}, {', '.join(self._shares)}{seed})"

    def start(self, module: nn.Module) -> None:
        """Take up the weights, all of them kept."""
        parameters = dict(module.named_parameters(remove_duplicate=False))
        self._weights = {name: parameters[name] for name in self._shares}
        self._masks = {name: torch.ones_like(weight, dtype=torch.bool)
                       for name, weight in self._weights.items()}
        if self._config.criterion == "random":
            self._drawn = random_scores(self._weights, self._seed)
        if self._config.criterion == "movement":
            self._moved = {name: torch.zeros_like(w) for name, w in self._weights.items()}
            self._aside = {name: w.detach().clone() for name, w in self._weights.items()}

    def before_step(self, step: Step) -> None:
        """Note the movement; let masked weights rest."""
        del step
        for name, weight in self._weights.items():
            if weight.grad is None:
                continue
            if self._moved:  # a step that overflowed in half precision says nothing
                finite = weight.grad.nan_to_num(0.0, 0.0, 0.0)
                self._moved[name] -= finite * self._aside[name]
            weight.grad.masked_fill_(~self._masks[name], 0.0)

    def after_step(self, step: Step) -> None:
        """Set masked weights to zero, after an update of the masks where one is due."""
        for name in self._aside:
            self._aside[name] = torch.where(self._masks[name], self._weights[name].detach(),
                                            self._aside[name])
        if self._is_due(step):
            self._masks = masks_for(self._scores(), self._shares, self._config,
                                    self._progress(step))
        for name, weight in self._weights.items():
            weight.copy_(self._aside.get(name, weight)).masked_fill_(~self._masks[name], 0.0)

    def is_settled(self, step: Step) -> bool:
        """Whether the final masks are in force."""
        return step.index + 1 >= self._last(step)

    def state(self) -> dict[str, Tensor]:
        """Masks, and for movement the scores and the values aside."""
        kinds = {"mask": self._masks, "moved": self._moved, "aside": self._aside}
        return {f"{kind}/{name}": tensor for kind, tensors in kinds.items()
                for name, tensor in tensors.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put them back, where the weights are."""
        kinds = {"mask": self._masks, "moved": self._moved, "aside": self._aside}
        for key, value in state.items():
            kind, _, name = key.partition("/")
            kinds[kind][name].copy_(value)

    def _scores(self) -> dict[str, Tensor]:
        return self._moved or self._drawn or {
            name: weight.detach().abs() for name, weight in self._weights.items()}

    def _last(self, step: Step) -> int:
        return math.ceil(self._config.end * step.total)

    def _is_due(self, step: Step) -> bool:
        done, last = step.index + 1, self._last(step)
        return done == last or (done < last and done % self._config.every == 0)

    def _progress(self, step: Step) -> float:
        return 1 - (1 - (step.index + 1) / self._last(step)) ** 3
