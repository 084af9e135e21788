"""Targets of a detection: a number of boxes per sample, checked, and padded to one size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from edgewright.errors import DataError
from edgewright.goals._origin import Origin
from edgewright.goals._targets import check_indices

_EXPECTED: Final = ('a dict {"boxes": (M, 4), "labels": (M,)} for each sample, whose boxes are '
                    "left, top, right, bottom in pixels of the input")
_SLACK: Final = 0.5  # pixels that a box may reach beyond the image, for rounding
_NO_BOX: Final = -1  # label of the padding


@final
@dataclass(frozen=True, eq=False)
class CheckedBoxes:
    """The checked boxes of a batch.

    Attributes:
        boxes: (M, 4) float32 of each sample.
        labels: (M,) int64 of each sample.
        origin: Where they come from; the size of the image is checked later.
    """

    boxes: list[Tensor]
    labels: list[Tensor]
    origin: Origin

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def owners(self) -> Tensor:
        """Position of the sample of each box, (boxes of all samples,)."""
        counts = torch.tensor(list(map(len, self.labels)), dtype=torch.long)
        return torch.repeat_interleave(torch.arange(len(counts)), counts)


def check_boxes(targets: Any, origin: Origin, classes: int | None) -> CheckedBoxes:
    """Check boxes and labels, and convert them to float32 and int64.

    Args:
        targets: A list with a dict per sample, or a dict of tensors (N, M, 4) and (N, M) if all
            samples have the same number of boxes. Other entries of the dicts are ignored.
        origin: Where they come from.
        classes: Number of classes that the model distinguishes, if known.

    Raises:
        DataError: They have another form, are not finite, are in another order of the edges, are
            relative to the size of the image, or a label is out of range.
    """
    if not len(origin.rows):
        return CheckedBoxes([], [], origin)
    pairs = [_read_sample(target, position, origin)
             for position, target in enumerate(_list_samples(targets, origin))]
    checked = CheckedBoxes([boxes for boxes, _ in pairs], [labels for _, labels in pairs], origin)
    boxes, labels, owners = torch.cat(checked.boxes), torch.cat(checked.labels), checked.owners
    _check_edges(boxes, owners, origin)
    check_indices(labels, classes, origin._replace(rows=origin.rows[owners]))
    return checked


def pad_boxes(checked: CheckedBoxes, height: int, width: int) -> dict[str, Tensor]:
    """The boxes of a batch in tensors of one size.

    Args:
        checked: The boxes of each sample.
        height: Height of the images, pixels.
        width: Their width.

    Returns:
        "boxes" (N, M, 4) float32 and "labels" (N, M) int64, -1 where a sample has fewer boxes, and
        "size", height and width, (N, 2) int64.

    Raises:
        DataError: A box reaches out of its image.
    """
    boxes, origin = torch.cat(checked.boxes), checked.origin
    limits = boxes.new_tensor([width, height])
    outside = (boxes[:, :2] < -_SLACK) | (boxes[:, 2:] > limits + _SLACK)
    if outside.any():
        first = int(outside.any(dim=1).nonzero()[0, 0])
        raise DataError(f"{_name_box(boxes, first, checked.owners, origin)}, outside of its image "
                        f"of {width} x {height} pixels; scale the boxes with the image, and clip "
                        "them")
    size = torch.tensor([[height, width]]).expand(len(checked), 2)
    return {"boxes": pad_sequence(checked.boxes, batch_first=True),
            "labels": pad_sequence(checked.labels, batch_first=True, padding_value=_NO_BOX),
            "size": size}


def _list_samples(targets: Any, origin: Origin) -> list[Any]:
    """The target of each sample."""
    if targets is None:
        raise DataError(f"the {origin.split} split has no targets; expected {_EXPECTED}")
    if isinstance(targets, list | tuple):
        return list(targets)
    if isinstance(targets, Mapping) and all(isinstance(targets.get(name), Tensor)
                                            for name in ("boxes", "labels")):
        return [{"boxes": boxes, "labels": labels}
                for boxes, labels in zip(targets["boxes"], targets["labels"], strict=True)]
    found = type(targets).__name__
    if isinstance(targets, Mapping):
        found += f" of {', '.join(map(str, targets))}" if targets else " without entries"
    raise DataError(f"{origin.targets} are a {found}; expected {_EXPECTED}")


def _read_sample(target: Any, position: int, origin: Origin) -> tuple[Tensor, Tensor]:
    """Boxes (M, 4) float32 and labels (M,) int64 of a sample."""
    name = origin.sample(position)
    if not isinstance(target, Mapping) or not {"boxes", "labels"} <= target.keys():
        found = (f"a dict of {', '.join(map(str, target))}" if isinstance(target, Mapping) else
                 f"a {type(target).__name__}")
        raise DataError(f"the target of {name} is {found}; expected {_EXPECTED}")
    boxes, labels = (torch.as_tensor(target[part]) for part in ("boxes", "labels"))
    if boxes.numel() == 0 and labels.numel() == 0:
        return torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
        raise DataError(f"{name} has boxes of shape {tuple(boxes.shape)} and labels of shape "
                        f"{tuple(labels.shape)}; expected (M, 4) and (M,)")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise DataError(f"the labels of {name} are {str(labels.dtype).removeprefix('torch.')}; "
                        "expected integers, the class of each box")
    return boxes.float(), labels.long()


def _check_edges(boxes: Tensor, owners: Tensor, origin: Origin) -> None:
    """Check that boxes are finite, have an area and are not relative to the image."""
    finite = boxes.isfinite().all(dim=1)
    if not finite.all():
        row = int(owners[~finite][0])
        raise DataError(f"a box of {origin.sample(row)} holds NaN or infinity; remove or fix it")
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
    if empty.any():
        first = int(empty.nonzero()[0, 0])
        raise DataError(f"{_name_box(boxes, first, owners, origin)}, whose right or bottom edge is "
                        "not beyond the left or top one; expected left, top, right, bottom (left "
                        "+ width and top + height if the data hold sizes), and no box without area")
    if len(boxes) and bool((boxes.abs() <= 1).all()):
        raise DataError(f"{_name_box(boxes, 0, owners, origin)}, and no box reaches beyond the "
                        "first pixel; expected pixels of the input: multiply relative edges by the "
                        "width and height")


def _name_box(boxes: Tensor, index: int, owners: Tensor, origin: Origin) -> str:
    """A box in a sentence."""
    edges = ", ".join(f"{edge:g}" for edge in boxes[index].tolist())
    return f"{origin.sample(int(owners[index]))} has the box ({edges})"
