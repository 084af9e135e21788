"""A teacher's logits in few bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgewright.errors import ModelError

_WHOLE: Final = 32  # classes up to which all logits are kept
_KEPT: Final = 16   # logits that are kept of more


@dataclass(frozen=True)
class SoftLabels:
    """How logits are kept: as float16, all of them or the largest 16 and the rest's mean.

    Up to 32 classes all are kept, 2 bytes a class. Of more, the 16 largest are kept with their
    classes, 66 bytes in all; the others get one logit each that leaves their share of the
    probability what it was (Shen & Xing 2022, "A fast knowledge distillation framework for visual
    recognition", "marginal smoothing with top-k"; there the kept values are probabilities). So at
    temperature 1 the probability of a kept class is exact; at a higher one the others have a
    little more than the teacher gives them.

    Attributes:
        shape: Of one sample's logits, the classes last.

    Example:
        >>> SoftLabels((10,)).bytes, SoftLabels((1000,)).bytes
        (20, 66)
    """

    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Of one view of one sample."""
        return self.dtype.itemsize

    @property
    def dtype(self) -> np.dtype[np.void]:
        """One sample's record."""
        *middle, classes = self.shape
        if classes <= _WHOLE:
            return np.dtype([("logits", np.float16, self.shape)])
        index = np.uint16 if classes <= 2**16 else np.uint32
        return np.dtype([("logits", np.float16, (*middle, _KEPT)),
                         ("classes", index, (*middle, _KEPT)),
                         ("rest", np.float16, tuple(middle))])

    def pack(self, logits: Tensor) -> NDArray[np.void]:
        """The records of a batch.

        Args:
            logits: (N, *shape).

        Raises:
            ModelError: A logit that is kept is NaN, or beyond what a float16 can hold.
        """
        logits = logits.detach().cpu().float()
        records = np.zeros(len(logits), dtype=self.dtype)
        if self.shape[-1] <= _WHOLE:
            fields = {"logits": logits}
        else:
            kept, classes = logits.topk(_KEPT, dim=-1)
            others = logits.scatter(-1, classes, -math.inf).logsumexp(dim=-1)
            fields = {"logits": kept, "classes": classes,
                      "rest": others - math.log(self.shape[-1] - _KEPT)}
        limit = float(np.finfo(np.float16).max)
        for name, values in fields.items():
            if name != "classes" and not bool((values.abs() <= limit).all()):
                raise ModelError("the teacher's logits hold NaN, or a value beyond the "
                                 f"{limit:g} that a cache can keep; normalise its outputs, or "
                                 "use it without a cache")
            records[name] = values.numpy()
        return records

    def unpack(self, records: NDArray[Any]) -> Tensor:
        """The logits (N, *shape), float32, that records stand for."""
        logits = _tensor(records["logits"], np.float32)
        if self.shape[-1] <= _WHOLE:
            return logits
        whole = _tensor(records["rest"], np.float32)[..., None].repeat_interleave(
            self.shape[-1], dim=-1)
        return whole.scatter_(-1, _tensor(records["classes"], np.int64), logits)


def _tensor(values: NDArray[Any], dtype: type[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values.astype(dtype)))
