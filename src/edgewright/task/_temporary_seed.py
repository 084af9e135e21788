"""Random numbers that depend only on the run's seed."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch

from edgewright.errors import UsageError

_SEEDS: Final = 2**32


@contextlib.contextmanager
def temporary_seed(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's global generators, and restore their state afterwards.

    A user's dataset may draw its augmentation from them. Every stage of a run starts from the
    seed, so that a resumed run sees the same samples as an uninterrupted one.

    Raises:
        UsageError: The seed is outside the generators' range.

    Example:
        >>> with temporary_seed(7):
        ...     first = torch.rand(1)
        >>> with temporary_seed(7):
        ...     bool(torch.rand(1) == first)
        True
    """
    if not 0 <= seed < _SEEDS:
        raise UsageError(f"seed must be at least 0 and below 2**32, got {seed}")
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
