"""Recipes: the stages of a run and their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Final, final

import yaml

from edgewright.core import Settings, suggest
from edgewright.distill import Distillation
from edgewright.errors import SettingsError, UsageError
from edgewright.exits import EarlyExits, HeadTraining
from edgewright.pipeline._recipe_file import RecipeFile
from edgewright.pruning import BlockPruning, ChannelPruning, WeightPruning
from edgewright.quantization import QAT, Quantization
from edgewright.training import CosineSchedule, Training


@final
class Recipe(Settings):
    """The stages of a run; a stage that is None is skipped.

    If accuracy matters more than training time, start from ``thorough``; if there is no time to
    train, from ``fast``.

    Attributes:
        name: Name in records.
        prune: Channel pruning; a tight budget raises its ratio.
        blocks: Pruning of residual branches, after the channels.
        recover: Training after pruning, with the original as teacher.
        weights: Sets individual weights to zero; later stages keep the zeros.
        distillation: The distillation loss in every training of the run.
        exits: Adds early exits and trains them.
        quantize: Quantization, calibrated or trained.

    Example:
        >>> Recipe.by_name("fast").prune is None
        True
    """

    name: str = "custom"
    prune: ChannelPruning | None = None
    blocks: BlockPruning | None = None
    recover: Training | None = None
    weights: WeightPruning | None = None
    distillation: Distillation = Distillation()
    exits: EarlyExits | None = None
    quantize: Quantization | None = None

    @classmethod
    def by_name(cls, name: str) -> Recipe:
        """A built-in recipe: fast, balanced or thorough."""
        if name not in RECIPES:
            raise UsageError(f"no recipe is called {name!r}; {suggest(name, RECIPES)}; or give the "
                             "path of a YAML file")
        return RECIPES[name]

    @classmethod
    def load(cls, reference: str | Path) -> Recipe:
        """Load a built-in recipe by name, or a recipe from a YAML file as written by a run.

        Raises:
            UsageError: No such recipe or file.
            SettingsError: Settings that are unknown, given twice or out of range; the message has
                a line for each, with its file, line and the nearest known name.
        """
        path = Path(reference)
        if path.suffix not in (".yaml", ".yml"):
            return cls.by_name(str(reference))
        file = RecipeFile.read(path)
        faults = file.repeated()
        recipe = cls()
        try:
            recipe = cls.model_validate(file.content)
        except SettingsError as error:
            faults += error.faults
        if faults:
            raise file.error(faults)
        return recipe

    def to_yaml(self) -> str:
        """The recipe as YAML text that `load` reads."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        return text


# Steps that suit ONNX Runtime's int8 kernels: in steps of 4, a network with 30 % fewer
# multiply-accumulates is slower than the unpruned one (benchmarks/pruning/channel_steps.py).
_PRUNING: Final = {"allocation": "solved", "compensate": True, "round_to": 16}
# A compensated network is close to a good solution, and large steps lead away from it: ResNet-20,
# at 87.7 % on held-out images, reaches 92.5 % in one epoch at 0.01, 92.1 % at 0.003, and 91.3 % in
# six epochs at 0.05.
_FINE_TUNING_LR: Final = 0.01

RECIPES: Final = {
    "fast": Recipe(name="fast", quantize=Quantization()),
    "balanced": Recipe(
        name="balanced",
        prune=ChannelPruning(ratio=0.3, **_PRUNING),
        recover=Training(epochs=6, lr=_FINE_TUNING_LR),
        exits=EarlyExits(places=2, training=HeadTraining(
            settings=Training(epochs=3, lr=0.05))),
        quantize=Quantization(method="qat"),
    ),
    "thorough": Recipe(
        name="thorough",
        prune=ChannelPruning(ratio=0.5, **_PRUNING),
        recover=Training(epochs=60, lr=0.1, schedule=CosineSchedule(warmup_epochs=1)),
        exits=EarlyExits(places=2, training=Training(epochs=20, lr=0.05)),
        quantize=Quantization(method=QAT(training=Training(
            epochs=10, lr=0.002, weight_decay=1e-5, clip_norm=1.0))),
    ),
}
