"""Latency on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.device import _bench, bench_here
from edgewright.errors import BundleError, UsageError

from .conftest import spec


def test_every_bundle_runs_all_rounds_on_its_own_inputs(relu: Path, two_inputs: Path) -> None:
    found = bench_here([relu, two_inputs, relu], rounds=7, seed=3)
    assert [latency.runs for latency in found] == [7, 7, 7]
    assert all(0 < latency.low_ms <= latency.median_ms <= latency.high_ms for latency in found)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can pin")
def test_the_thread_is_free_again_afterwards(relu: Path) -> None:
    before = os.sched_getaffinity(0)
    bench_here([relu], rounds=1, seed=0)
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int64",
                                   "bool"])
def test_samples_are_of_batch_1_and_follow_the_seed(dtype: str) -> Any:
    def draw(seed: int) -> np.ndarray:
        return _bench._random(spec("x", None, 3, 5, dtype=dtype), np.random.default_rng(seed),
                              Path("m.edge"))

    sample = draw(1)
    assert sample.shape == (1, 3, 5)
    assert sample.dtype == dtype
    np.testing.assert_array_equal(sample, draw(1))
    if sample.dtype.kind == "f":
        assert not np.array_equal(sample, draw(2))
    else:
        assert not sample.any()


@pytest.mark.parametrize("unfit", [
    spec("x", None, 4, dtype="str"), spec("x", None, 0),
    spec("x", None, -4), spec("x", None, 10**12), spec("x", None, 10**30)])
def test_inputs_that_cannot_be_made_up_are_refused_by_name(make_bundle: Callable[..., Path],
                                                           unfit: Any) -> None:
    path = make_bundle("odd.edge", "g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }", unfit)
    with pytest.raises(BundleError, match=r"odd\.edge: cannot generate a random input for 'x'"):
        bench_here([path], rounds=1, seed=0)


def test_an_input_of_no_known_type_is_named(make_bundle: Callable[..., Path]) -> None:
    path = make_bundle("odd.edge", "g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }",
                       spec("x", None, 4, dtype="bfloat17"))
    with pytest.raises(BundleError, match=r"odd\.edge gives 'x' the dtype 'bfloat17'"):
        bench_here([path], rounds=1, seed=0)


def test_a_damaged_bundle_is_named(relu: Path, damaged: Path) -> None:
    with pytest.raises(BundleError, match=r"damaged\.edge"):
        bench_here([relu, damaged], rounds=1, seed=0)


@pytest.mark.parametrize(("rounds", "seed", "said"), [
    (0, 0, "cannot time"), (1, -1, "the seed must be at least 0, got -1")])
def test_bad_numbers_are_refused(relu: Path, rounds: int, seed: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        bench_here([relu], rounds=rounds, seed=seed)


def test_no_bundles_is_an_error() -> None:
    with pytest.raises(UsageError, match="cannot time 0 candidates"):
        bench_here([], rounds=1, seed=0)
