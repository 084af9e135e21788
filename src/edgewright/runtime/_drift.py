"""Drift detection: whether samples still resemble those that the thresholds were chosen on."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import ExitProfile, format_percent
from edgewright.errors import UsageError

_Counts = NDArray[np.float64]

_MIN_EXPECTED: Final = 5.0
_TIE: Final = 1e-9   # confidences this close count as equal; far below the effect of any drift

_SWEEPS: Final = 100   # leaves nine edges within a ten-thousandth of their final position


@dataclass(frozen=True)
class Drift:
    """The state of drift detection at one moment.

    Attributes:
        drifted: The samples differ from the calibration samples; stays True once it is.
        since_sample: First sample of the window in which drift was detected, counted from 0.
        p_value: Of that window, else of the last complete one; None before the first, or if there
            is nothing to compare.
        summary: The same in one sentence.

    Example:
        >>> Drift(drifted=False, since_sample=None, p_value=0.4, summary="no drift").drifted
        False
    """

    drifted: bool
    since_sample: int | None
    p_value: float | None
    summary: str


@final
class DriftMonitor:
    """Compares exits and confidences with those recorded at calibration; thread-safe.

    After every complete window of samples, two likelihood-ratio tests of homogeneity are made (G
    test, Sokal & Rohlf 1981, "Biometry", 17.4, with Williams' correction): one of the number of
    samples that left at each exit, one of the number of confidences at the first exit that fall
    between the profile's deciles. Both are two-sample tests, since the profile is itself an
    estimate from a finite number of samples. Bins with fewer than 5 expected samples are merged
    with their neighbours. G follows the chi-square distribution in the far tail, where these tests
    are evaluated; Pearson's statistic does not.

    Window k is called drifted if the smaller p-value, doubled, is below ``6 alpha / (pi k)^2``.
    These levels add up to alpha, so the probability of any false alarm in a run without drift is
    at most alpha, however long it lasts. This assumes independent samples: consecutive video frames
    are correlated, and cause false alarms more often. For such data use a larger window.

    A confidence equal to a decile is counted on the side that agrees best with the profile, since
    the profile does not record the side: many confidences of exactly 1 raise no alarm.

    Args:
        profile: Of the operating point, recorded at calibration.
        window: Samples per test. Larger windows detect smaller drifts, but later.
        alpha: Probability of a false alarm, over all future windows.

    Raises:
        UsageError: A window below 50 samples, an alpha not in (0, 1), or a profile of no samples.

    Example:
        >>> profile = ExitProfile(split="val", samples=5000, shares=(0.8, 0.2))
        >>> monitor = DriftMonitor(profile, window=100)
        >>> monitor.add([0.9] * 100, [0] * 20 + [1] * 80)
        >>> monitor.verdict.summary
        'the guarantee no longer applies: since sample 0, 20.0 % of the samples leave at exit 1, \
80.0 % at calibration (p at most 8e-37); recalibrate on samples like the current ones'
    """

    def __init__(self, profile: ExitProfile, *, window: int = 500, alpha: float = 1e-3) -> None:
        if window < 50:
            raise UsageError(f"window must be at least 50 samples to detect drift, got {window}")
        if not 0 < alpha < 1:
            raise UsageError(f"alpha must be a probability between 0 and 1, got {alpha}")
        if profile.samples < 1:
            raise UsageError(f"the profile has {profile.samples} samples, expected at least 1")
        self._profile = profile
        self._window = window
        self._alpha = alpha
        self._lock = threading.Lock()
        self._windows = 0
        self._confidences: list[float] = []   # of samples in the incomplete window
        self._exits: list[int] = []
        self._verdict = Drift(False, None, None, f"no complete window of {window} samples yet")

    @property
    def verdict(self) -> Drift:
        """The current state."""
        return self._verdict

    def add(self, confidence: Sequence[float] | np.ndarray,
            exits: Sequence[int] | np.ndarray) -> None:
        """Add the samples of a call; cheap unless they complete a window.

        Args:
            confidence: Confidence after the first segment, as for the profile's
                deciles; NaN counts as 0.
            exits: Step of the operating point's path after which each sample left.

        Raises:
            UsageError: The two do not match each other or the profile.
        """
        places = len(self._profile.shares)
        if len(confidence) != len(exits):
            raise UsageError("every sample needs a confidence and an exit, got "
                             f"{len(confidence)} and {len(exits)}")
        if len(exits) and not 0 <= min(exits) <= max(exits) < places:
            raise UsageError(f"exits are from {min(exits)} to {max(exits)}, but the profile has "
                             f"{places}, counted from 0")
        with self._lock:
            if self._verdict.drifted:
                return
            self._confidences.extend(confidence)
            self._exits.extend(exits)
            while len(self._exits) >= self._window and not self._verdict.drifted:
                self._close_window()

    def _close_window(self) -> None:
        self._windows += 1
        window = self._window
        confidences, self._confidences = self._confidences[:window], self._confidences[window:]
        exits, self._exits = self._exits[:window], self._exits[window:]
        tests = _compare(np.nan_to_num(confidences, nan=0.0), np.array(exits), self._profile)
        if not tests:
            self._verdict = Drift(False, None, None, "the profile has nothing to compare with")
            return
        least, difference = min(tests)
        p_value = min(len(tests) * least, 1.0)
        if p_value >= 6 * self._alpha / (math.pi * self._windows) ** 2:
            summary = (f"exits and confidences are as at calibration, in {self._windows} windows "
                       f"of {window} samples")
            self._verdict = Drift(False, None, p_value, summary)
            return
        since = (self._windows - 1) * window
        self._verdict = Drift(True, since, p_value, (
            f"the guarantee no longer applies: since sample {since:,}, {difference} (p at most "
            f"{max(p_value, 1e-99):.0e}); recalibrate on samples like the current ones"))


def _compare(sure: NDArray[np.float64], exits: NDArray[np.int64],
             profile: ExitProfile) -> list[tuple[float, str]]:
    """The p-value of each test on a window's samples, and a description of what differs most."""
    samples, shares = len(exits), np.asarray(profile.shares)
    deciles = np.asarray(profile.deciles)
    below = (sure[:, None] < deciles - _TIE).sum(axis=0).astype(np.float64)
    up_to = (sure[:, None] <= deciles + _TIE).sum(axis=0).astype(np.float64)
    left = np.bincount(exits, minlength=len(shares)).astype(np.float64)
    confidences = _most_even_counts(below, up_to, samples)
    even = np.full(len(deciles) + 1, 1 / (len(deciles) + 1))
    tests = [(homogeneity_p_value(left, shares * profile.samples),
              _describe_exits(left / samples, shares)),
             (homogeneity_p_value(confidences, even * profile.samples),
              _describe_confidences(confidences / samples, even))]
    return [(p_value, text) for p_value, text in tests if p_value is not None]


def homogeneity_p_value(first: _Counts, second: _Counts) -> float | None:
    """The p-value of two samples, counted in the same bins, having one distribution.

    The G test with Williams' correction, see `DriftMonitor`.

    Returns:
        None if fewer than two bins are left after merging.

    Example:
        >>> round(homogeneity_p_value(np.array([30.0, 70.0]), np.array([500.0, 500.0])), 5)
        0.00011
    """
    table = _merge(np.stack([first, second]))
    rows, columns, total = table.sum(axis=1), table.sum(axis=0), table.sum()
    freedom = table.shape[1] - 1
    if freedom < 1:
        return None
    expected = np.outer(rows, columns) / total
    ratio = np.divide(table, expected, out=np.ones_like(table), where=table > 0)
    statistic = 2 * float((table * np.log(ratio)).sum())
    spread = ((total / rows).sum() - 1) * ((total / columns).sum() - 1)
    return chi_square_tail(statistic / (1 + spread / (6 * total * freedom)), freedom)


def chi_square_tail(statistic: float, freedom: int) -> float:
    """Probability that a chi-square variable with integer degrees of freedom exceeds a statistic.

    The regularized upper gamma function by its recurrence (Abramowitz & Stegun 1964, 26.4.4 and
    26.4.5), which is exact for integers.

    Example:
        >>> round(chi_square_tail(3.841, 1), 4), round(chi_square_tail(5.991, 2), 4)
        (0.05, 0.05)
    """
    half = max(statistic, 0.0) / 2
    odd = freedom % 2
    tail = math.erfc(math.sqrt(half)) if odd else math.exp(-half)
    term = math.exp(-half) * (math.sqrt(half / math.pi) * 2 if odd else half)
    for step in range(1, freedom // 2 + odd):
        tail += term
        term *= half / (step + (0.5 if odd else 1.0))
    return min(tail, 1.0)


def _merge(table: _Counts) -> _Counts:
    """Merge neighbouring columns until both rows expect enough samples in each."""
    expected = table.sum(axis=0) * table.sum(axis=1).min() / table.sum()
    starts, held = [0], 0.0
    for column, here in enumerate(expected):
        if held >= _MIN_EXPECTED:
            starts.append(column)
            held = 0.0
        held += here
    if held < _MIN_EXPECTED and len(starts) > 1:
        starts.pop()
    merged: _Counts = np.add.reduceat(table, starts, axis=1)
    return merged


def _most_even_counts(below: _Counts, up_to: _Counts, samples: int) -> _Counts:
    """Samples per bin, spread as evenly as the ties allow.

    The cumulative count at each edge may be anywhere between ``below`` and ``up_to``, since samples
    equal to the edge may count on either side. Each free edge is moved repeatedly to the middle of
    its neighbours, within its bounds, as a string is pulled taut.
    """
    cumulative = np.concatenate([[0.0], (below + up_to) / 2, [float(samples)]])
    tied = np.flatnonzero(up_to > below).tolist()
    for _ in range(_SWEEPS if tied else 0):
        for edge in tied:
            middle = (cumulative[edge] + cumulative[edge + 2]) / 2
            cumulative[edge + 1] = min(max(middle, below[edge]), up_to[edge])
    return np.diff(cumulative)


def _describe_exits(shares: _Counts, before: _Counts) -> str:
    exit_ = int(np.abs(shares - before).argmax())
    return (f"{format_percent(shares[exit_])} of the samples leave at exit {exit_ + 1}, "
            f"{format_percent(before[exit_])} at calibration")


def _describe_confidences(shares: _Counts, before: _Counts) -> str:
    bin_ = int(np.abs(shares - before).argmax())
    return (f"{format_percent(shares[bin_])} of the confidences at the first exit are between the "
            f"quantiles {bin_ / len(shares):.1f} and {(bin_ + 1) / len(shares):.1f} of the "
            "calibration")
