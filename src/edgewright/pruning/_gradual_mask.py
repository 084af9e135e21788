"""A mask on weights that grows during training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias, final

import torch
from torch import Tensor, nn

from edgewright.pruning._masks import Masks, keep_highest_per_block, mask_lowest
from edgewright.pruning._weight_pruning import WeightPruning
from edgewright.training import Step, StepHook

Sparsities: TypeAlias = Mapping[str, float | None]


def compute_masks(scores: Mapping[str, Tensor], sparsities: Sparsities, config: WeightPruning,
                  progress: float = 1.0) -> Masks:
    """Masks that are True for the weights to keep.

    Args:
        scores: Importance of each weight.
        sparsities: Sparsity of each layer; None for the config's.
        config: Pattern, sparsity and scope.
        progress: Fraction of the sparsity to reach, 0 to 1. Blocks of an N:M pattern lose one
            weight after another as it grows.
    """
    general = progress * (config.sparsity or 0.0)
    if config.block is not None:
        size = config.block[1]
        keep = size - math.floor(general * size + 1e-9)
        return {name: keep_highest_per_block(values, keep, size) for name, values in scores.items()}
    masks: Masks = {}
    without_own = {name: values for name, values in scores.items() if sparsities[name] is None}
    if without_own:
        masks |= mask_lowest(without_own, general, config.scope)
    for name, values in scores.items():
        own = sparsities[name]
        if own is not None:
            masks |= mask_lowest({name: values}, progress * own, "layer")
    return {name: masks[name] for name in scores}


def draw_random_scores(weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Draw a random score for every weight."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(weight.shape, generator=generator).to(weight.device)
            for name, weight in weights.items()}


@final
class GradualMask(StepHook):
    """Masks the least important weights by magnitude, movement or random scores.

    Sparsity grows on the cubic schedule of Zhu & Gupta 2017, eq. 1, from 0, over the first ``end``
    of the run's T steps, and masks are updated every few steps::

        s(t) = s_final * (1 - (1 - t / (end * T))^3)

    With magnitudes, a masked weight is zero and stays zero. With movement (Sanh et al. 2020, eq.
    2-3, with its hard top-v selection), the value of a masked weight is saved and the weight may be
    unmasked later; the score of a weight w is ``-sum over the steps of w * dL/dw``, with the
    gradient of the masked network (straight-through).

    Args:
        sparsities: The weights, by their names in the module, each with its own sparsity, or None
            for the config's.
        config: Pattern, sparsity, criterion, scope and schedule.
        seed: Seed for random scores.
    """

    def __init__(self, sparsities: Sparsities, config: WeightPruning, seed: int = 0) -> None:
        self._sparsities, self._config, self._seed = dict(sparsities), config, seed
        self._random_scores: dict[str, Tensor] = {}
        self._weights: dict[str, nn.Parameter] = {}
        self._masks: Masks = {}
        self._movement: dict[str, Tensor] = {}
        self._saved_values: dict[str, Tensor] = {}
        self._is_final = False

    @property
    def name(self) -> str:
        """Identifies weights and settings in a checkpoint."""
        settings = self._config.model_dump_json(exclude={"training", "ignore"})
        seed = f", seed {self._seed}" if self._config.criterion == "random" else ""
        return f"GradualMask({settings}, {', '.join(self._sparsities)}{seed})"

    def start(self, module: nn.Module) -> None:
        """Find the weights in the module, with none of them masked."""
        parameters = dict(module.named_parameters(remove_duplicate=False))
        self._weights = {name: parameters[name] for name in self._sparsities}
        self._masks = {name: torch.ones_like(weight, dtype=torch.bool)
                       for name, weight in self._weights.items()}
        self._is_final = False
        if self._config.criterion == "random":
            self._random_scores = draw_random_scores(self._weights, self._seed)
        if self._config.criterion == "movement":
            self._movement = {name: torch.zeros_like(w) for name, w in self._weights.items()}
            self._saved_values = {name: w.detach().clone() for name, w in self._weights.items()}

    def before_step(self, step: Step) -> None:
        """Update the movement scores, and set the gradients of masked weights to zero."""
        del step
        for name, weight in self._weights.items():
            if weight.grad is None:
                continue
            if self._movement:  # gradients that overflowed in half precision are ignored
                finite = weight.grad.nan_to_num(0.0, 0.0, 0.0)
                self._movement[name] -= finite * self._saved_values[name]
            weight.grad.masked_fill_(~self._masks[name], 0.0)

    def after_step(self, step: Step) -> None:
        """Update the masks if this is an update step, and set masked weights to zero."""
        for name in self._saved_values:
            self._saved_values[name] = torch.where(
                self._masks[name], self._weights[name].detach(), self._saved_values[name])
        if self._is_update_step(step):
            self._masks = compute_masks(self._scores(), self._sparsities, self._config,
                                        self._progress(step))
            self._is_final = step.index + 1 >= self._last_update(step)
        for name, weight in self._weights.items():
            weight.copy_(self._saved_values.get(name, weight)).masked_fill_(~self._masks[name], 0.0)

    def is_settled(self, step: Step) -> bool:
        """Whether the masks are final."""
        return self._is_final or step.index + 1 >= self._last_update(step)

    def state(self) -> dict[str, Tensor]:
        """Masks, and for movement the scores and the saved values of masked weights."""
        kinds = {"mask": self._masks, "moved": self._movement, "aside": self._saved_values}
        final = {"final": torch.tensor(self._is_final)}
        return final | {f"{kind}/{name}": tensor for kind, tensors in kinds.items()
                        for name, tensor in tensors.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state, on the device of the weights."""
        kinds = {"mask": self._masks, "moved": self._movement, "aside": self._saved_values}
        self._is_final = bool(state["final"])
        for key, value in state.items():
            kind, _, name = key.partition("/")
            if name:
                kinds[kind][name].copy_(value)

    def _scores(self) -> dict[str, Tensor]:
        return self._movement or self._random_scores or {
            name: weight.detach().abs() for name, weight in self._weights.items()}

    def _last_update(self, step: Step) -> int:
        return math.ceil(self._config.end * step.total)

    def _is_update_step(self, step: Step) -> bool:
        done, last = step.index + 1, self._last_update(step)
        if done == last:
            return True
        # If the time is limited, the expected total changes, so no step may be the last update.
        return not self._is_final and (done > last or done % self._config.every == 0)

    def _progress(self, step: Step) -> float:
        return 1 - (1 - min(1.0, (step.index + 1) / self._last_update(step))) ** 3
