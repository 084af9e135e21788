"""Recipes of candidates."""

from __future__ import annotations

from typing import Final

from edgewright.allocation import JointAnswer
from edgewright.exits import JointTraining
from edgewright.pipeline import Recipe
from edgewright.pruning import BlockPruning, ChannelPruning
from edgewright.quantization import QAT, Precision, Quantization, resolve
from edgewright.search._config import Search
from edgewright.training import Training

_EXITS_SHARE: Final = 1 / 3  # of the training in floating point, with the exits


def write_recipe(name: str, answer: JointAnswer | None, config: Search, *,
                 seconds: float = 0.0, quantized_seconds: float = 0.0) -> Recipe:
    """The recipe of an answer: remove, narrow, train, quantize, and train quantized.

    Args:
        name: Name of the recipe.
        answer: What was decided; None to change nothing but the bits.
        config: Training and quantization of all candidates.
        seconds: Time of the training in floating point; 0 for none.
        quantized_seconds: Time of the training with quantization; 0 to calibrate only.

    Example:
        >>> answer = JointAnswer(("layer1.0",), {"conv1.weight": 8}, {"conv1.weight": 4}, 0.0, {},
        ...                      0.0)
        >>> recipe = write_recipe("a", answer, Search(), seconds=60)
        >>> recipe.blocks.remove, recipe.prune.widths, recipe.recover.time
        (('layer1.0',), {'conv1.weight': 8}, 60.0)
    """
    prune = blocks = None
    if answer is not None and answer.widths:
        prune = ChannelPruning(widths=dict(answer.widths), compensate=True, prove_export=False)
    if answer is not None and answer.removed:
        blocks = BlockPruning(remove=answer.removed)
    return Recipe(
        name=name, prune=prune, blocks=blocks,
        recover=_limit_time(config.training, seconds),
        quantize=_train_quantized(_write_scheme(answer, config), config,
                                  quantized_seconds))


def lengthen(recipe: Recipe, config: Search, seconds: float, quantized_seconds: float) -> Recipe:
    """The recipe with longer trainings.

    Args:
        recipe: From `write_recipe`, possibly with exits.
        config: The settings it was made with.
        seconds: Time of the training in floating point, a third of it with the exits if there are
            any; 0 for none.
        quantized_seconds: Time of the training with quantization; 0 to calibrate only.

    Example:
        >>> from edgewright.exits import EarlyExits
        >>> recipe = lengthen(Recipe(exits=EarlyExits(places=1)), Search(), 60.0, 0.0)
        >>> recipe.recover.time, recipe.exits.training.settings.time
        (40.0, 20.0)
    """
    scheme, exits = recipe.quantize or config.quantize, recipe.exits
    with_exits = 0.0 if exits is None else _EXITS_SHARE * seconds
    if exits is not None:
        settings, how = _limit_time(config.training, with_exits), exits.training or JointTraining()
        exits = exits.replace(training=settings and how.replace(settings=settings))
    return recipe.replace(recover=_limit_time(config.training, seconds - with_exits), exits=exits,
                          quantize=_train_quantized(scheme, config, quantized_seconds))


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


def _train_quantized(scheme: Quantization, config: Search, seconds: float) -> Quantization:
    if not seconds:
        return scheme.replace(method=config.quantize.method)
    return scheme.replace(method=QAT(training=config.quantized_training.replace(time=seconds)))
