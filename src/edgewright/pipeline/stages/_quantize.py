"""The stage that quantizes."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, final

import torch

from edgewright.core import Budget, format_skip_reasons
from edgewright.goals import Goal
from edgewright.graph import FLOAT_BITS, stored_tensors
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline.stages._context import StageContext
from edgewright.pipeline.stages._scheme import drop_missing_layers, scheme_before_exits
from edgewright.pipeline.stages._stage import AdjustedRecipe, Stage
from edgewright.program import Program
from edgewright.quantization import (
    PTQ,
    QAT,
    Nearest,
    Quantization,
    measure_float_share,
    place,
    quantize,
    resolve,
)


@final
class Quantize(Stage[Quantization]):
    """Quantizes, calibrated or trained."""

    name: ClassVar[str] = "quantize"

    def config_of(self, recipe: Recipe) -> Quantization | None:
        """Return the recipe's scheme."""
        return recipe.quantize

    def adjust_to(self, recipe: Recipe, program: Program, budget: Budget,  # noqa: ARG002 - as others do
               goal: Goal) -> AdjustedRecipe:  # noqa: ARG002 - as others do
        """Raise for a scheme that does not fit the model, before any training.

        Raises:
            UsageError: The scheme violates a rule of its target, or a pattern of its ``layers``
                matches nothing.
        """
        scheme = scheme_before_exits(recipe, program)
        if scheme is not None:
            place(program, resolve(scheme))
        return AdjustedRecipe(recipe)

    def describe(self, config: Quantization) -> tuple[str, ...]:
        """Describe the quantization method."""
        return (scheme_note(config),)

    def run(self, program: Program, config: Quantization, context: StageContext) -> Program:
        """Quantize, without the scheme's refinements or training if those make the metric worse."""
        result, plain = _quantize(program, config, context), remove_refinements(config)
        if plain is None:
            return result
        other = _quantize(program, plain, context)
        with_it, without = context.val_score(result), context.val_score(other)
        if with_it.merit >= without.merit:
            return result
        context.record_decision(f"{describe_refinements(config)} left out: {with_it} with it and "
                                f"{without} without (val)")
        return other

    def describe_result(self, before: Program, after: Program, config: Quantization,
                        context: StageContext) -> tuple[str, ...]:
        """Describe the layers' bits, and which layers stay in floating point."""
        scheme = drop_missing_layers(config, context.original, before)
        return describe_precision(before, after, scheme)


def _quantize(program: Program, config: Quantization, context: StageContext) -> Program:
    scheme = drop_missing_layers(config, context.original, program)
    training = config.method.training if isinstance(config.method, QAT) else None
    return quantize(program, context.task, scheme, objective=context.objective(training),
                    seed=context.seed, checkpoint=context.checkpoint,
                    progress=context.progress())


def scheme_note(config: Quantization) -> str:
    """A one-line description of a scheme.

    Example:
        >>> scheme_note(Quantization(method=PTQ(rounding="adaround")))
        'static ptq (adaround), ranges by mse'
        >>> scheme_note(Quantization(method="qat", range_estimator="percentile"))
        'static qat (lsq), ranges by percentile (99.99 %)'
    """
    mode = "weight-only" if config.activations is None else config.activations.mode
    chosen = "" if config.mixed is None else f", bits chosen by {config.mixed.method}"
    return f"{mode} {config.method}, ranges by {config.range_estimator}{chosen}"


def describe_refinements(config: Quantization) -> str:
    """What a scheme does beyond calibrating ranges, as a phrase; empty if nothing.

    Example:
        >>> describe_refinements(Quantization(method=PTQ(equalize=True, rounding="adaround")))
        'equalize and rounding by adaround'
        >>> describe_refinements(Quantization(method="qat"))
        'training with quantization'
    """
    method = config.method
    if isinstance(method, QAT):
        return "training with quantization"
    found = [name for name in ("equalize", "correct_bias") if getattr(method, name)]
    found += [f"rounding by {method.rounding}"] * (not isinstance(method.rounding, Nearest))
    return " and ".join(found)


def remove_refinements(config: Quantization) -> Quantization | None:
    """The scheme with calibrated ranges only; None if it has no more than that."""
    if not describe_refinements(config):
        return None
    return config.replace(method=PTQ())


def describe_precision(before: Program, after: Program, config: Quantization) -> tuple[str, ...]:
    """The bits of a program's layers, and which layers stay in floating point and why.

    Args:
        before: The floating-point program.
        after: The quantized program.
        config: The scheme.
    """
    bits = Counter((layer.weight_bits, layer.activation_bits) for layer in after.costs().layers
                   if layer.weight is not None and layer.weight_bits < FLOAT_BITS)
    counted = ", ".join(f"W{weights}A{activations} of {_layers(count)}"
                        for (weights, activations), count in bits.most_common())
    tensors = _describe_stored_only(after)
    if tensors:
        counted = ", ".join(filter(None, [counted, f"{tensors} only stored as integers"]))
    kept = place(before, resolve(config)).skip_reasons
    share = measure_float_share(after, kept)
    if share.is_significant:
        return counted, str(share)
    return (counted, f"in floating point: {format_skip_reasons(kept)}") if kept else (counted,)


def _describe_stored_only(program: Program) -> str:
    """A phrase with the number of integer tensors that are no layer's weight."""
    layers = {layer.weight for layer in program.costs().layers}
    stored = stored_tensors(program.graph_module).items()
    count = sum(tensor.dtype is torch.int8 and name not in layers for name, tensor in stored)
    return "" if not count else f"{count} tensor" + ("" if count == 1 else "s")


def _layers(count: int) -> str:
    return f"{count} layer" + ("" if count == 1 else "s")
