"""The header of a teacher cache: which teacher, samples and views it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, Self

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.utils import _pytree as pytree

from edgewright.core import Value
from edgewright.distill._digest import compute_digest
from edgewright.errors import DataError, StorageError
from edgewright.task import AugmentationPolicy, Batch, Split, View

_PROBE_SAMPLES: Final = 32
_MAX_HEADER_BYTES: Final = 1 << 20
_REMEDY: Final = "delete it, or give another path"


class CacheHeader(Value):
    """The first line of a cache; a cache is used only if all fields match.

    Attributes:
        format: Version of the file format.
        teacher: The teacher's name, which includes a digest of its weights.
        samples: Number of samples.
        data: Digest of the samples' rows, and of every input and label.
        views: Number of views per sample; None for samples without augmentation.
        policy: The augmentation of the views.
        augmentation: Digest of a few inputs in every view.
        shape: Shape of one sample's logits.
    """

    format: Literal[1] = 1
    teacher: str
    samples: int
    data: str
    views: int | None
    policy: AugmentationPolicy
    augmentation: str
    shape: tuple[int, ...]

    @classmethod
    def create(cls, teacher: str, split: Split, views: int | None, policy: AugmentationPolicy,
           shape: tuple[int, ...]) -> Self:
        """The header of a new cache.

        Raises:
            DataError: The split gives different inputs every time a view is read.
        """
        given = [compute_digest(*_all_tensors(read_stable_probe(split, view)))
                 for view in list_views(views, policy)]
        return cls(teacher=teacher, samples=len(split), data=_data_digest(split), views=views,
                   policy=policy, augmentation=compute_digest(*given), shape=shape)

    @property
    def passes(self) -> tuple[View | None, ...]:
        """The stored views, in order."""
        return list_views(self.views, self.policy)

    @property
    def line(self) -> bytes:
        """The header as bytes, as written before the records."""
        return self.model_dump_json().encode() + b"\n"

    def check(self, path: Path) -> None:
        """Check that the cache at ``path`` has this header.

        Raises:
            StorageError: It has another one, or is not a cache; the message says what differs.
        """
        found = _read(path)
        reasons = {
            "teacher": f"another teacher ({found.teacher}, not {self.teacher})",
            "samples": f"{found.samples} samples, not {self.samples}",
            "data": "other training samples",
            "views": f"{_count(found.views)}, not {_count(self.views)}",
            "policy": f"samples augmented by {found.policy!r}, not {self.policy!r}",
            "augmentation": "samples augmented in another way",
            "shape": f"logits of shape {found.shape}, not {self.shape}",
        }
        for name, reason in reasons.items():
            if getattr(found, name) != getattr(self, name):
                raise StorageError(f"the teacher cache {path} is for {reason}; {_REMEDY}")


def list_views(views: int | None,
               policy: AugmentationPolicy = "standard") -> tuple[View | None, ...]:
    """Views numbered from 0; for None, the samples without augmentation.

    Example:
        >>> [view.number for view in list_views(2)], list_views(None)
        ([0, 1], (None,))
    """
    return (None,) if views is None else tuple(View(number, policy) for number in range(views))


def probe(split: Split, view: View | None) -> Batch:
    """Up to 32 samples spread over the split, in one batch."""
    count = min(_PROBE_SAMPLES, len(split))
    positions = torch.linspace(0, len(split) - 1, count).round().long()
    return next(split.select(positions).batches(count, view=view))


def read_stable_probe(split: Split, view: View | None) -> Batch:
    """The probe, checked to be the same when read twice.

    Raises:
        DataError: It differs; the message names the split and a sample.
    """
    first, second = probe(split, view), probe(split, view)
    for one, other in zip(first.inputs, second.inputs, strict=True):
        if one.shape != other.shape or not torch.equal(one, other):
            row = _find_first_difference(first, second)
            raise DataError(
                f"sample {row} of the {split.name} split differs each time it is read, so the "
                "teacher's outputs cannot be cached: its dataset augments randomly. Give the "
                "samples without augmentation and let Edgewright augment them (tensors, an "
                "ImageSplit), or train without a cache")
    return first


def _find_first_difference(first: Batch, second: Batch) -> int:
    for index, row in enumerate(first.rows.tolist()):
        for one, other in zip(first.inputs, second.inputs, strict=True):
            if one[index].shape != other[index].shape or not torch.equal(one[index], other[index]):
                return int(row)
    return int(first.rows[0])


def _data_digest(split: Split) -> str:
    read_stable_probe(split, None)
    return compute_digest(split.rows, split.digest())


def _all_tensors(batch: Batch) -> tuple[Tensor, ...]:
    return (*batch.inputs, *(leaf for leaf in pytree.tree_leaves(batch.targets)
                             if isinstance(leaf, Tensor)))


def _read(path: Path) -> CacheHeader:
    try:
        with path.open("rb") as file:
            line = file.readline(_MAX_HEADER_BYTES)
    except OSError as error:
        raise StorageError(f"cannot read the teacher cache {path}: {error.strerror or error}"
                           ) from error
    try:
        return CacheHeader.model_validate_json(line)
    except ValidationError as error:
        raise StorageError(f"{path} is not a teacher cache, is damaged, or has another version; "
                           f"{_REMEDY}") from error


def _count(views: int | None) -> str:
    return "samples without augmentation" if views is None else f"{views} views"
