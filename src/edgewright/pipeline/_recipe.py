"""Recipes: which stages a run has, and how each is set."""

from __future__ import annotations

from pathlib import Path
from typing import Final, final

import yaml

from edgewright.core import Settings
from edgewright.distill import Distillation
from edgewright.errors import UsageError
from edgewright.exits import EarlyExits, HeadTraining
from edgewright.pruning import BlockPruning, ChannelPruning, WeightPruning
from edgewright.quantization import QAT, Quantization
from edgewright.training import CosineSchedule, Training


@final
class Recipe(Settings):
    """What a run does; a stage that is None is left out.

    Attributes:
        name: Shown in records.
        prune: Removes channels; a tight budget raises its ratio.
        blocks: Removes residual branches, after the channels.
        recover: Training after pruning, with the original as teacher.
        weights: Sets single weights to zero, which every later stage keeps.
        distillation: How the teacher's outputs weigh in every training of the run.
        exits: Adds early exits and trains them.
        quantize: To integers, calibrated or trained.

    Example:
        >>> Recipe.named("fast").prune is None
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
    def named(cls, name: str) -> Recipe:
        """A recipe that comes with Edgewright: fast, balanced or thorough."""
        if name not in RECIPES:
            raise UsageError(f"no recipe is called {name!r}; there are {', '.join(RECIPES)}, "
                             "or give the path of a YAML file")
        return RECIPES[name]

    @classmethod
    def load(cls, reference: str | Path) -> Recipe:
        """A recipe by name, or from a YAML file as a run writes it.

        Raises:
            UsageError: No such recipe or file, or a setting that is unknown or out of range.
        """
        path = Path(reference)
        if path.suffix not in (".yaml", ".yml"):
            return cls.named(str(reference))
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"cannot read the recipe {path}: {reason}") from error
        return cls.model_validate(content)

    def to_yaml(self) -> str:
        """The recipe as a file that `load` reads."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        return text


# What ONNX Runtime's int8 kernels reward: in steps of 4, 30 % fewer multiply-accumulates are
# slower than none (benchmarks/pruning/channel_steps.py).
_PRUNING: Final = {"allocation": "solved", "compensate": True, "round_to": 16}
# A compensated network is close to where it should be, and large steps lead away from there: of
# ResNet-20, 87.7 % on held-out images, one epoch makes 92.5 % at 0.01, 92.1 % at 0.003, and six
# make 91.3 % at 0.05.
_CLOSE: Final = 0.01

RECIPES: Final = {
    "fast": Recipe(name="fast", quantize=Quantization()),
    "balanced": Recipe(
        name="balanced",
        prune=ChannelPruning(ratio=0.3, **_PRUNING),
        recover=Training(epochs=6, lr=_CLOSE),
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
