"""Whether the samples are still like those that the thresholds were chosen on."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import ExitProfile
from edgewright.errors import UsageError

_Counts = NDArray[np.float64]

_LEAST_EXPECTED: Final = 5.0
_TIE: Final = 1e-9   # confidences no further apart are the same; far below what a drift moves

_PULLS: Final = 100   # leave nine edges a ten-thousandth of their way from their place


@dataclass(frozen=True)
class Drift:
    """What is known of drift at one moment.

    Attributes:
        drifted: The samples differ from the calibration's, and stay called so.
        since_sample: First sample of the window in which it was seen, counted from 0.
        p_value: Of that window, or else of the last whole one; None before the first, or where
            there is nothing to compare.
        words: The same for people.

    Example:
        >>> Drift(drifted=False, since_sample=None, p_value=0.4, words="as at calibration").drifted
        False
    """

    drifted: bool
    since_sample: int | None
    p_value: float | None
    words: str


@final
class DriftMonitor:
    """Compares exits and confidences with those recorded at calibration; safe from any thread.

    After every whole window of samples two likelihood-ratio tests of homogeneity are made (G, Sokal
    & Rohlf 1981, "Biometry", 17.4, with Williams' correction): of the samples that left at each
    exit, and of the confidences at the first exit that fall between the profile's deciles. Both
    compare two samples, since the profile is itself an estimate from so many. Bins expected to hold
    fewer than 5 samples are merged with their neighbours. Pearson's statistic follows chi-square as
    well in the middle, but not in the far tail, where these tests are made; G does.

    Window k is called drifted when the smaller p-value, doubled, is below ``6 alpha / (pi k)^2``.
    As these levels add up to alpha, a run without drift is called drifted with a probability of at
    most alpha, however long it lasts. This holds for samples that are independent of each other: of
    neighbouring frames of a film a window tells less than it seems, and alarms come too easily.

    Confidences equal to a decile count on whichever side agrees best with the profile, since it
    does not tell on which side they were: many confidences of exactly 1 raise no alarm.

    Args:
        profile: Of the operating point, recorded at calibration.
        window: Samples to a test.
        alpha: Probability of a false alarm, over all windows to come.

    Raises:
        UsageError: A window below 50 samples, an alpha not in (0, 1), or a profile of no samples.

    Example:
        >>> profile = ExitProfile(split="val", samples=5000, shares=(0.8, 0.2))
        >>> monitor = DriftMonitor(profile, window=100)
        >>> monitor.add([0.9] * 100, [0] * 20 + [1] * 80)
        >>> monitor.verdict.words
        'the guarantee no longer applies: since sample 0, 20.0 % of the samples leave at exit 1, \
80.0 % at calibration (p at most 8e-37); calibrate on samples like the present ones'
    """

    def __init__(self, profile: ExitProfile, *, window: int = 500, alpha: float = 1e-3) -> None:
        if window < 50:
            raise UsageError(f"a window needs at least 50 samples to show a drift, got {window}")
        if not 0 < alpha < 1:
            raise UsageError(f"alpha is a probability between 0 and 1, got {alpha}")
        if profile.samples < 1:
            raise UsageError(f"a profile of {profile.samples} samples has nothing to compare with")
        self._profile = profile
        self._window = window
        self._alpha = alpha
        self._lock = threading.Lock()
        self._windows = 0
        self._sure: list[float] = []   # of samples in no whole window yet
        self._exits: list[int] = []
        self._verdict = Drift(False, None, None, f"no whole window of {window} samples yet")

    @property
    def verdict(self) -> Drift:
        """What is known now."""
        return self._verdict

    def add(self, confidence: Sequence[float], exits: Sequence[int]) -> None:
        """Watch the samples of a call, in plain numbers: all but one call in many only keep them.

        Args:
            confidence: Top softmax probability after the first segment, as the profile's deciles
                were taken; not a number counts as none at all.
            exits: Place in the operating point's path after which each sample left.

        Raises:
            UsageError: The two do not fit each other or the profile.
        """
        places = len(self._profile.shares)
        if len(confidence) != len(exits):
            raise UsageError("a confidence and an exit are needed of every sample, got "
                             f"{len(confidence)} and {len(exits)}")
        if len(exits) and not 0 <= min(exits) <= max(exits) < places:
            raise UsageError(f"exits from {min(exits)} to {max(exits)}; the profile is of "
                             f"{places}, counted from 0")
        with self._lock:
            if self._verdict.drifted:
                return
            self._sure.extend(confidence)
            self._exits.extend(exits)
            while len(self._exits) >= self._window and not self._verdict.drifted:
                self._close_window()

    def _close_window(self) -> None:
        self._windows += 1
        sure, self._sure = self._sure[:self._window], self._sure[self._window:]
        exits, self._exits = self._exits[:self._window], self._exits[self._window:]
        found = _compare(np.nan_to_num(sure, nan=0.0), np.array(exits), self._profile)
        if not found:
            self._verdict = Drift(False, None, None, "the profile tells nothing to compare with")
            return
        least, what = min(found)
        p_value = min(len(found) * least, 1.0)
        if p_value >= 6 * self._alpha / (math.pi * self._windows) ** 2:
            words = (f"exits and confidences are as at calibration: windows of {self._window} "
                     f"samples seen: {self._windows}")
            self._verdict = Drift(False, None, p_value, words)
            return
        since = (self._windows - 1) * self._window
        self._verdict = Drift(True, since, p_value, (
            f"the guarantee no longer applies: since sample {since:,}, {what} (p at most "
            f"{max(p_value, 1e-99):.0e}); calibrate on samples like the present ones"))


def _compare(sure: NDArray[np.float64], exits: NDArray[np.int64],
             profile: ExitProfile) -> list[tuple[float, str]]:
    """Each test's p-value of a window's samples, and in words what differs most."""
    samples, shares = len(exits), np.asarray(profile.shares)
    deciles = np.asarray(profile.deciles)
    below = (sure[:, None] < deciles - _TIE).sum(axis=0).astype(np.float64)
    up_to = (sure[:, None] <= deciles + _TIE).sum(axis=0).astype(np.float64)
    left = np.bincount(exits, minlength=len(shares)).astype(np.float64)
    confidences = _evenest(below, up_to, samples)
    even = np.full(len(deciles) + 1, 1 / (len(deciles) + 1))
    found = [(homogeneity_p_value(left, shares * profile.samples),
              _exits_in_words(left / samples, shares)),
             (homogeneity_p_value(confidences, even * profile.samples),
              _confidences_in_words(confidences / samples, even))]
    return [(p_value, words) for p_value, words in found if p_value is not None]


def homogeneity_p_value(first: _Counts, second: _Counts) -> float | None:
    """That two samples, counted in the same bins, are of one distribution.

    The G test with Williams' correction, see `DriftMonitor`.

    Returns:
        None where fewer than two bins are left after merging.

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
    """Probability that chi-square exceeds a statistic, exactly, as its freedom is whole.

    The regularised upper gamma function by its recurrence (Abramowitz & Stegun 1964, 26.4.4 and
    26.4.5).

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
    """Columns next to each other put together until both rows expect enough in each."""
    expected = table.sum(axis=0) * table.sum(axis=1).min() / table.sum()
    starts, held = [0], 0.0
    for column, here in enumerate(expected):
        if held >= _LEAST_EXPECTED:
            starts.append(column)
            held = 0.0
        held += here
    if held < _LEAST_EXPECTED and len(starts) > 1:
        starts.pop()
    merged: _Counts = np.add.reduceat(table, starts, axis=1)
    return merged


def _evenest(below: _Counts, up_to: _Counts, samples: int) -> _Counts:
    """Samples in each bin, where so many are below each edge, and so many more at most.

    A string from 0 to all samples, held between the two at each edge, is evenest when pulled taut.
    """
    string = np.concatenate([[0.0], (below + up_to) / 2, [float(samples)]])
    tied = np.flatnonzero(up_to > below).tolist()
    for _ in range(_PULLS if tied else 0):
        for edge in tied:
            middle = (string[edge] + string[edge + 2]) / 2
            string[edge + 1] = min(max(middle, below[edge]), up_to[edge])
    return np.diff(string)


def _exits_in_words(shares: _Counts, before: _Counts) -> str:
    exit_ = int(np.abs(shares - before).argmax())
    return (f"{shares[exit_]:.1%} of the samples leave at exit {exit_ + 1}, "
            f"{before[exit_]:.1%} at calibration").replace("%", " %")


def _confidences_in_words(shares: _Counts, before: _Counts) -> str:
    bin_ = int(np.abs(shares - before).argmax())
    place = f"quantiles {bin_ / len(shares):.1f} and {(bin_ + 1) / len(shares):.1f}"
    return (f"{shares[bin_]:.1%} of the confidences at the first exit lie between calibration's "
            f"{place}").replace("%", " %")
