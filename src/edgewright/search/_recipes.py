"""Recipes of candidates."""

from __future__ import annotations

from typing import Final

from edgewright.allocation import JointAnswer
from edgewright.distill import Distillation
from edgewright.exits import JointTraining
from edgewright.pipeline import Recipe
from edgewright.pruning import BlockPruning, ChannelPruning
from edgewright.quantization import QAT, Precision, Quantization, resolve
from edgewright.search._config import Search
from edgewright.training import Training

_EASY_BITS: Final = 8          # of weights, for which calibration is nearly as good as training
_EASY_BITS_SHARE: Final = 0.1  # of the final training, with quantization
_FEW_BITS_SHARE: Final = 0.3
_REFIT_SAMPLES: Final = 512    # of the fit after blocks were removed
_EXITS_SHARE: Final = 1 / 3    # of the training in floating point, with the exits


def write_recipe(name: str, answer: JointAnswer | None, config: Search) -> Recipe:
    """The recipe of an answer: narrow, remove and refit, and quantize; `lengthen` adds training.

    Args:
        name: Name of the recipe.
        answer: What was decided; None to change nothing but the bits.
        config: The quantization of all candidates, and what they learn from the teacher.

    Example:
        >>> answer = JointAnswer(("layer1.0",), {"conv1.weight": 8}, {"conv1.weight": 4}, 0.0, {},
        ...                      0.0)
        >>> recipe = write_recipe("a", answer, Search())
        >>> recipe.blocks.remove, recipe.prune.widths
        (('layer1.0',), {'conv1.weight': 8})
    """
    prune = blocks = None
    if answer is not None and answer.widths:
        prune = ChannelPruning(widths=dict(answer.widths), compensate=True, prove_export=False)
    if answer is not None and answer.removed:
        blocks = BlockPruning(remove=answer.removed, refit=True, refit_samples=_REFIT_SAMPLES)
    distillation = config.distillation or Distillation()
    if prune is not None:  # a projection to the removed channels would have to be learned first
        distillation = distillation.replace(features=None, pairs=(), feature_weight=None)
    return Recipe(name=name, prune=prune, blocks=blocks, distillation=distillation,
                  quantize=_write_scheme(answer, config))


def train_out(recipe: Recipe, config: Search, seconds: float) -> Recipe:
    """The recipe with the final training, and training with quantization at its end.

    With weights of 8 bits calibration loses next to nothing, so that little of the time is spent on
    the slower training with quantization.

    Args:
        recipe: From `write_recipe`, possibly with exits.
        config: The settings it was made with.
        seconds: Time of both trainings.
    """
    scheme = recipe.quantize or config.quantize
    bits = [scheme.weights, *(one.weights for one in scheme.layers.values()
                              if isinstance(one, Precision))]
    has_few_bits = any(one is not None and one < _EASY_BITS for one in bits)
    share = _FEW_BITS_SHARE if has_few_bits else _EASY_BITS_SHARE
    quantized = config.quantized_training.replace(time=share * seconds)
    return _train(recipe, config.resolve_final_training(), (1 - share) * seconds).replace(
        quantize=scheme.replace(method=QAT(training=quantized)))


def lengthen(recipe: Recipe, config: Search, seconds: float) -> Recipe:
    """The recipe with another training of the race, and calibration only.

    Args:
        recipe: From `write_recipe`, possibly with exits.
        config: The settings it was made with.
        seconds: Time of the training in floating point, a third of it with the exits if there are
            any; 0 for none.

    Example:
        >>> from edgewright.exits import EarlyExits
        >>> recipe = lengthen(Recipe(exits=EarlyExits(places=1)), Search(), 60.0)
        >>> recipe.recover.time, recipe.exits.training.settings.time
        (40.0, 20.0)
    """
    scheme = recipe.quantize or config.quantize
    return _train(recipe, config.training, seconds).replace(
        quantize=scheme.replace(method=config.quantize.method))


def _train(recipe: Recipe, training: Training, seconds: float) -> Recipe:
    """The recipe with its training in floating point, part of it with the exits if it has any."""
    exits = recipe.exits
    with_exits = 0.0 if exits is None else _EXITS_SHARE * seconds
    if exits is not None:
        settings, how = _limit_time(training, with_exits), exits.training or JointTraining()
        exits = exits.replace(training=settings and how.replace(settings=settings))
    return recipe.replace(recover=_limit_time(training, seconds - with_exits), exits=exits)


def _write_scheme(answer: JointAnswer | None, config: Search) -> Quantization:
    """The scheme with the bits of every weight that differs from the default."""
    scheme = config.quantize
    if answer is None:
        return scheme
    activations = resolve(scheme).precision.activations
    fewer = {weight: Precision(weights=bits, activations=activations)
             for weight, bits in answer.bits.items() if bits != scheme.weights}
    return scheme.replace(layers={**fewer, **scheme.layers})


def _limit_time(training: Training, seconds: float) -> Training | None:
    return training.replace(time=seconds) if seconds else None


def training_seconds(training: Training | None) -> float:
    """The time that a training may take; 0 without a training or a limit."""
    return 0.0 if training is None else training.time or 0.0
