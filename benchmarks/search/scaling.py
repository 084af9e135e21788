"""How the wall time of a search's race falls with the number of workers, by simulation.

The times of the trials are those that a finished search recorded, one after the other, on one
machine. Simulated is what `edgewright.search` does with workers:

- the process that searches asks for as many proposals at once as there are workers, and solves
  their programs one after the other;
- the workers build them, and the batch ends with the slowest;
- then latencies are measured, one after the other, on the machine that searches;
- later rounds build all survivors, each on the worker that is free first.

Sending model and data, and starting workers, is not included. Besides the recorded race, a larger
one is simulated: its first round draws its trials from the recorded first round, with replacement,
and every later round trains as many times longer as one candidate in so many survives. Efficiency
is the wall time on one worker, divided by workers times the wall time on them.

Example:
    python -m benchmarks.search.scaling --run runs/r20
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.common.paths import RESULTS
from benchmarks.common.result_rows import keep, provenance
from edgewright.search import Trial, read_race

_PACKAGES: Final = ("edgewright", "torch", "onnxruntime", "optuna", "numpy")
_WORKERS: Final = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class TrialTimes:
    """Seconds of one trial.

    Attributes:
        planning: To ask and to solve, where the search runs.
        building: On a worker: all stages, export, validation.
        training: The part of ``building`` that a longer training extends.
        timing: To measure its latency, where the search runs.
    """

    planning: float
    building: float
    training: float
    timing: float

    @classmethod
    def of(cls, trial: Trial) -> TrialTimes:
        """As recorded."""
        training = trial.recipe.recover
        return cls(trial.planning_seconds, trial.seconds - trial.timing_seconds,
                   0.0 if training is None else training.time or 0.0, trial.timing_seconds)

    def lengthen(self, times: int) -> TrialTimes:
        """With a training so many times as long, and no proposal."""
        more = (times - 1) * self.training
        return replace(self, planning=0.0, building=self.building + more,
                       training=times * self.training)


def simulate(rounds: Sequence[Sequence[TrialTimes]], workers: int) -> float:
    """Seconds that a race takes.

    Example:
        >>> trial = TrialTimes(planning=1.0, building=10.0, training=8.0, timing=2.0)
        >>> [simulate([[trial] * 4, [trial.lengthen(2)] * 2], workers) for workers in (1, 2, 4)]
        [92.0, 54.0, 44.0]
    """
    first, *later = rounds
    batches = [first[start:start + workers] for start in range(0, len(first), workers)]
    return sum(sum(one.planning + one.timing for one in part) + _makespan(part, workers)
               for part in (*batches, *later))


def _makespan(trials: Sequence[TrialTimes], workers: int) -> float:
    """Seconds until the last is built, each on the worker that is free first."""
    free = [0.0] * workers
    for trial in trials:
        heapq.heapreplace(free, free[0] + trial.building)
    return max(free)


def enlarge(first: Sequence[TrialTimes], candidates: int, survivors: int,
            seed: int) -> list[list[TrialTimes]]:
    """The rounds of a race with more candidates, drawn from the recorded ones.

    Example:
        >>> trial = TrialTimes(planning=1.0, building=10.0, training=8.0, timing=2.0)
        >>> [(len(one), one[0].building) for one in enlarge([trial], 27, 3, seed=0)]
        [(27, 10.0), (9, 26.0), (3, 74.0)]
    """
    standing = random.Random(seed).choices(first, k=candidates)  # noqa: S311 - no secret
    rounds = [standing]
    while len(standing) // survivors >= 2:
        standing = [one.lengthen(survivors) for one in standing[:len(standing) // survivors]]
        rounds.append(standing)
    return rounds


def describe(rounds: Sequence[Sequence[TrialTimes]]) -> dict[str, Any]:
    """Sizes of the rounds, and wall time and efficiency for every number of workers."""
    alone = simulate(rounds, 1)
    walls = {workers: simulate(rounds, workers) for workers in _WORKERS}
    return {"candidates": [len(one) for one in rounds],
            "workers": {str(workers): {"wall_seconds": round(wall, 1),
                                       "speedup": round(alone / wall, 2),
                                       "efficiency": round(alone / wall / workers, 3)}
                        for workers, wall in walls.items()}}


def main() -> None:
    """Simulate, store and print."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="directory of a finished search")
    parser.add_argument("--store", help="URL of the database of its trials, if it has a password")
    parser.add_argument("--candidates", type=int, default=81, help="of the larger race")
    parser.add_argument("--survivors", type=int, default=3, help="one of so many survives a round")
    parser.add_argument("--seed", type=int, default=0, help="of the larger race's draws")
    parser.add_argument("--results", type=Path, default=RESULTS / "scaling.json")
    settings = parser.parse_args()
    recorded = [[TrialTimes.of(trial) for trial in one]
                for one in read_race(settings.run, settings.store)]
    if not recorded or not all(one.timing for one in recorded[0]):
        parser.error(f"{settings.run} has no race whose times were recorded")
    larger = enlarge(recorded[0], settings.candidates, settings.survivors, settings.seed)
    mean = {part: round(sum(getattr(one, part) for one in recorded[0]) / len(recorded[0]), 2)
            for part in ("planning", "building", "training", "timing")}
    row = {**provenance(_PACKAGES, seed=settings.seed), "mean_seconds_of_a_trial": mean,
           "recorded": describe(recorded), "larger": describe(larger)}
    keep(settings.results, settings.run.name, row)
    print_table(row)


def print_table(row: dict[str, Any]) -> None:
    """One line per number of workers."""
    print("| workers | recorded race: s | efficiency | larger race: s | efficiency |")
    print("|---|---|---|---|---|")
    for workers in _WORKERS:
        cells = [value for race in ("recorded", "larger")
                 for key, value in row[race]["workers"][str(workers)].items() if key != "speedup"]
        print(f"| {workers} | {cells[0]:.0f} | {100 * cells[1]:.0f} % "
              f"| {cells[2]:.0f} | {100 * cells[3]:.0f} % |")


if __name__ == "__main__":
    main()
