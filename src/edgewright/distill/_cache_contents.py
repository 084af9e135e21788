"""What a teacher cache is of: whose words, on which samples, how these were varied."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, Self

import torch
from pydantic import ValidationError
from torch import Tensor

from edgewright.core import Value
from edgewright.distill._digest import compute_digest
from edgewright.errors import DataError, StorageError
from edgewright.task import Batch, Policy, Split, View

_PROBED: Final = 32
_LONGEST: Final = 1 << 20
_ANOTHER: Final = "delete it, or give another path"


class Contents(Value):
    """The first line of a cache; one that differs in anything is not used.

    Attributes:
        format: Of the file.
        teacher: Its name, which holds a digest of its weights.
        samples: How many there are.
        data: Digest of the samples' rows, and of every input and label.
        views: How many views of every sample; None for the samples as they are.
        policy: How far the views vary them.
        augmentation: Digest of the same inputs in every view.
        shape: Of one sample's logits.
    """

    format: Literal[1] = 1
    teacher: str
    samples: int
    data: str
    views: int | None
    policy: Policy
    augmentation: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, teacher: str, split: Split, views: int | None, policy: Policy,
           shape: tuple[int, ...]) -> Self:
        """What a cache made now would be of.

        Raises:
            DataError: The split gives other inputs every time one view is read.
        """
        given = [compute_digest(*_content(stable_probe(split, view)))
                 for view in list_views(views, policy)]
        return cls(teacher=teacher, samples=len(split), data=_data_digest(split), views=views,
                   policy=policy, augmentation=compute_digest(*given), shape=shape)

    @property
    def passes(self) -> tuple[View | None, ...]:
        """The views that are kept, in order."""
        return list_views(self.views, self.policy)

    @property
    def line(self) -> bytes:
        """As it stands in the file, in front of the records."""
        return self.model_dump_json().encode() + b"\n"

    def check(self, path: Path) -> None:
        """See that a cache is of this.

        Raises:
            StorageError: It is not, or is no cache; says what differs.
        """
        found = _read(path)
        reasons = {
            "teacher": f"what another teacher said ({found.teacher}, not {self.teacher})",
            "samples": f"{found.samples} samples, not {self.samples}",
            "data": "other training samples",
            "views": f"{_count(found.views)}, not {_count(self.views)}",
            "policy": f"samples varied by {found.policy!r}, not {self.policy!r}",
            "augmentation": "samples augmented in another way",
            "shape": f"logits of shape {found.shape}, not {self.shape}",
        }
        for name, reason in reasons.items():
            if getattr(found, name) != getattr(self, name):
                raise StorageError(f"the teacher cache {path} is of {reason}; {_ANOTHER}")


def list_views(views: int | None, policy: Policy = "standard") -> tuple[View | None, ...]:
    """So many views, from number 0 on; for None, the samples as they are.

    Example:
        >>> [view.number for view in list_views(2)], list_views(None)
        ([0, 1], (None,))
    """
    return (None,) if views is None else tuple(View(number, policy) for number in range(views))


def probe(split: Split, view: View | None) -> Batch:
    """Up to 32 samples from all over the split, in one batch."""
    count = min(_PROBED, len(split))
    positions = torch.linspace(0, len(split) - 1, count).round().long()
    return next(split.select(positions).batches(count, view=view))


def stable_probe(split: Split, view: View | None) -> Batch:
    """The probe, once it is seen to be the same the second time.

    Raises:
        DataError: It is not; names the split and a sample.
    """
    first, second = probe(split, view), probe(split, view)
    for one, other in zip(first.inputs, second.inputs, strict=True):
        if one.shape != other.shape or not torch.equal(one, other):
            row = _first_difference(first, second)
            raise DataError(
                f"sample {row} of the {split.name} split is another one each time it is read, so "
                "what a teacher says of it cannot be kept: its dataset draws its augmentation "
                "afresh. Give the samples as they are and let Edgewright vary them (tensors, an "
                "ImageSplit), or train without a cache")
    return first


def _first_difference(first: Batch, second: Batch) -> int:
    for index, row in enumerate(first.rows.tolist()):
        for one, other in zip(first.inputs, second.inputs, strict=True):
            if one[index].shape != other[index].shape or not torch.equal(one[index], other[index]):
                return int(row)
    return int(first.rows[0])


def _data_digest(split: Split) -> str:
    stable_probe(split, None)
    return compute_digest(split.rows, split.digest())


def _content(batch: Batch) -> tuple[Tensor, ...]:
    return (*batch.inputs, batch.targets)


def _read(path: Path) -> Contents:
    try:
        with path.open("rb") as file:
            line = file.readline(_LONGEST)
    except OSError as error:
        raise StorageError(f"cannot read the teacher cache {path}: {error.strerror or error}"
                           ) from error
    try:
        return Contents.model_validate_json(line)
    except ValidationError as error:
        raise StorageError(f"{path} is no teacher cache, is damaged, or is of another version; "
                           f"{_ANOTHER}") from error


def _count(views: int | None) -> str:
    return "the samples as they are" if views is None else f"{views} views"
