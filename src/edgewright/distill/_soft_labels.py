"""A compact storage format for a teacher's logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgewright.errors import ModelError

_MAX_FULL_CLASSES: Final = 32  # number of classes up to which all logits are stored
_TOP_K: Final = 16   # number of logits stored if there are more classes


@dataclass(frozen=True)
class SoftLabels:
    """Logits stored as float16: all of them, or the 16 largest and one value for the rest.

    Up to 32 classes all logits are stored, 2 bytes per class. For more classes, the 16 largest are
    stored with their class indices, 66 bytes in total; all others share one logit that preserves
    their total probability (Shen & Xing 2022, "A fast knowledge distillation framework for visual
    recognition", "marginal smoothing with top-k"; there the stored values are probabilities). At
    temperature 1 the probabilities of the stored classes are exact; at higher temperatures the
    other classes get slightly more probability than from the teacher.

    Attributes:
        shape: Shape of one sample's logits, with the classes last.

    Example:
        >>> SoftLabels((10,)).bytes, SoftLabels((1000,)).bytes
        (20, 66)
    """

    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes per view of a sample."""
        return self.dtype.itemsize

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The dtype of one sample's record."""
        *middle, classes = self.shape
        if classes <= _MAX_FULL_CLASSES:
            return np.dtype([("logits", np.float16, self.shape)])
        index = np.uint16 if classes <= 2**16 else np.uint32
        return np.dtype([("logits", np.float16, (*middle, _TOP_K)),
                         ("classes", index, (*middle, _TOP_K)),
                         ("rest", np.float16, tuple(middle))])

    def pack(self, logits: Tensor) -> NDArray[np.void]:
        """Convert a batch of logits to records.

        Args:
            logits: (N, *shape).

        Raises:
            ModelError: A stored logit is NaN, or outside the range of float16.
        """
        logits = logits.detach().cpu().float()
        records = np.zeros(len(logits), dtype=self.dtype)
        if self.shape[-1] <= _MAX_FULL_CLASSES:
            fields = {"logits": logits}
        else:
            kept, classes = logits.topk(_TOP_K, dim=-1)
            others = logits.scatter(-1, classes, -math.inf).logsumexp(dim=-1)
            fields = {"logits": kept, "classes": classes,
                      "rest": others - math.log(self.shape[-1] - _TOP_K)}
        limit = float(np.finfo(np.float16).max)
        for name, values in fields.items():
            if name != "classes" and not bool((values.abs() <= limit).all()):
                raise ModelError("the teacher's logits hold NaN, or a value beyond the "
                                 f"{limit:g} that a cache can store; normalize its outputs, or "
                                 "use it without a cache")
            records[name] = values.numpy()
        return records

    def unpack(self, records: NDArray[Any]) -> Tensor:
        """Convert records back to logits (N, *shape), float32."""
        logits = _tensor(records["logits"], np.float32)
        if self.shape[-1] <= _MAX_FULL_CLASSES:
            return logits
        whole = _tensor(records["rest"], np.float32)[..., None].repeat_interleave(
            self.shape[-1], dim=-1)
        return whole.scatter_(-1, _tensor(records["classes"], np.int64), logits)


def _tensor(values: NDArray[Any], dtype: type[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values.astype(dtype)))
