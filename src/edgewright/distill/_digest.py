"""Short digests of weights and samples."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def compute_digest(*parts: Tensor | str) -> str:
    """A digest (12 hexadecimal digits) of texts and of tensors' dtypes, shapes and values.

    Example:
        >>> compute_digest("a", "bc") == compute_digest("ab", "c")
        False
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(f"{part.dtype} {tuple(part.shape)} ".encode())
            flat = part.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().data)
        else:
            digest.update(f"{len(part)} {part} ".encode())
    return digest.hexdigest()[:12]
