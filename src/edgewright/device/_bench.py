"""Latency of bundles on the local machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import SizeRange, TensorSpec, format_shape
from edgewright.errors import BundleError, UsageError
from edgewright.measure import Latency, compare_latency, pin_to_core
from edgewright.runtime import Session, load

_SAMPLES: Final = 16   # several, since with early exits the latency depends on the input
_WARMUP: Final = 10
_MAX_SAMPLE_BYTES: Final = 1 << 28


def bench_here(paths: Sequence[Path], *, rounds: int, seed: int) -> list[Latency]:
    """Latency of bundles at batch size 1, one thread on one core, measured interleaved.

    Inputs are random: floats are standard normal, integers and booleans are zero (a valid index
    of every table). Bundles with the same inputs get the same samples.

    Args:
        paths: The bundles; their inputs may differ.
        rounds: Timed runs of each bundle.
        seed: Seed of the random inputs, at least 0.

    Returns:
        One latency per bundle, in the given order.

    Raises:
        BundleError: A bundle is damaged, cannot run here, or takes inputs that cannot be generated.
        UsageError: There are no bundles, ``rounds`` is below 1, or ``seed`` is below 0.

    Example:
        >>> bench_here([Path("missing.edge")], rounds=1, seed=0)
        Traceback (most recent call last):
        ...
        edgewright.errors.BundleError: missing.edge: No such file or directory; check the path
    """
    if seed < 0:
        raise UsageError(f"the seed must be at least 0, got {seed}")
    candidates = {str(index): _candidate(path, seed) for index, path in enumerate(paths)}
    with pin_to_core():
        found = compare_latency(candidates, rounds=rounds, warmup=_WARMUP)
    return [found[name] for name in candidates]


def _candidate(path: Path, seed: int) -> Callable[[int], object]:
    session: Session = load(path)
    generator = np.random.default_rng(seed)
    samples = [tuple(_random(spec, generator, path) for spec in session.model.inputs)
               for _ in range(_SAMPLES)]
    return lambda index: session(*samples[index % _SAMPLES])


def _random(spec: TensorSpec, generator: np.random.Generator, path: Path) -> NDArray[Any]:
    """One sample of an input, of batch size 1 and the largest sizes."""
    shape = tuple(1 if size is None else size.high if isinstance(size, SizeRange) else size
                  for size in spec.shape)
    dtype = np.dtype(spec.dtype)
    too_large = math.prod(shape) * dtype.itemsize > _MAX_SAMPLE_BYTES
    if too_large or min(shape, default=1) < 1 or dtype.kind not in "fiub":
        raise _unsupported(path, spec)
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    return np.zeros(shape, dtype)


def _unsupported(path: Path, spec: TensorSpec) -> BundleError:
    return BundleError(f"{path}: cannot generate a random input for {spec.name!r}, {spec.dtype} of "
                       f"shape {format_shape(spec.shape)}; expected numbers, at most "
                       f"{_MAX_SAMPLE_BYTES} bytes per sample")
