"""Decoded results as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgewright.core import format_percent

if TYPE_CHECKING:
    from edgewright.runtime import AnswerSet, Detections, Quantity, Vector

_FEW: Final = 8  # numbers that are printed one by one


def describe_results(results: list[Any], top: int) -> Iterator[str]:
    """The lines for the results of all samples.

    Args:
        results: As `Session.decode` returns them.
        top: Most classes of each sample.
    """
    for number, result in enumerate(results):
        sample = f"sample {number}: " if len(results) > 1 else ""
        if isinstance(result, dict):
            for name, part in result.items():
                yield from (f"{sample}{name}: {line}" for line in describe_result(part, top))
        else:
            yield from (f"{_prefix(result, sample)}{line}" for line in describe_result(result, top))


def describe_result(result: Any, top: int) -> list[str]:
    """The lines for one result, by its kind.

    Example:
        >>> from edgewright.runtime import ClassRanking
        >>> describe_result(ClassRanking(np.array([0.25, 0.75]), ("cat", "dog")), top=1)
        [' 75.00 %  dog']
    """
    from edgewright.runtime import AnswerSet, ClassRanking, Detections, Mask, Vector

    if isinstance(result, ClassRanking):
        return [_share(one.probability, one.label) for one in result.top(top)]
    if isinstance(result, Mask):
        return [_share(share, label) for label, share in result.shares.items()]
    if isinstance(result, AnswerSet):
        return _describe_answers(result)
    if isinstance(result, Detections):
        return _describe_boxes(result)
    return [_describe_vector(result) if isinstance(result, Vector) else _describe_numbers(result)]


def _prefix(result: Any, sample: str) -> str:
    from edgewright.runtime import ClassRanking

    return "" if isinstance(result, ClassRanking) else sample


def _describe_answers(found: AnswerSet) -> list[str]:
    if found.probabilities.ndim > 1:
        share = _share(float(found.yes.mean()), "of the pixels: yes")
        if found.names is None:
            return [share]
        return [_share(float(part.mean()), f"of the pixels: {name}")
                for name, part in zip(found.names, found.yes, strict=True)]
    return [_share(one.probability, f"{one.label}: {_word(one.yes)}" if one.label
                   else _word(one.yes)) for one in found]


def _describe_boxes(found: Detections) -> list[str]:
    if not len(found):
        return ["no boxes"]
    width = max(len("label"), *(len(one.label) for one in found))
    head = f"{'score':>8}  {'label':<{width}}" + "".join(
        f"{name:>9}" for name in ("left", "top", "right", "bottom"))
    return [head, *(f"{format_percent(one.score, 2):>8}  {one.label:<{width}}"
                    + "".join(f"{edge:>9.1f}" for edge in one.box) for one in found)]


def _describe_vector(found: Vector) -> str:
    values = found.values.tolist()
    shown = ", ".join(f"{value:.4g}" for value in values[:_FEW])
    return f"vector of {len(values)}: {shown}{', ...' if len(values) > _FEW else ''}"


def _describe_numbers(found: Quantity) -> str:
    values, unit = found.values, f" {found.unit}" if found.unit else ""
    if values.size <= _FEW:
        return ", ".join(f"{value:.6g}" for value in values.ravel().tolist()) + unit
    return (f"{values.size} values of shape {values.shape}, from {np.min(values):.6g} to "
            f"{np.max(values):.6g}, mean {np.mean(values):.6g}{unit}")


def _word(yes: bool) -> str:
    return "yes" if yes else "no"


def _share(share: float, text: str) -> str:
    return f"{format_percent(share, 2):>8}  {text}"
