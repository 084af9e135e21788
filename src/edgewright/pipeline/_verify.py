"""`verify`: run a bundle again and hold it to what its manifest says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgewright.core import FigureName
from edgewright.errors import ParityError
from edgewright.pipeline._judge import judge
from edgewright.runtime import load
from edgewright.task import Task

# Absolute for the accuracy (a tenth of a point, or two samples where that is more: rounding differs
# between processors), relative for what follows from how many samples leave at each exit.
TOLERANCES: Final[dict[FigureName, float]] = {"accuracy": 0.001, "macs": 0.02, "energy_mj": 0.02}
_SAMPLES: Final = 2


@dataclass(frozen=True)
class Check:
    """One figure: what the manifest says, what was measured, and how far they may differ."""

    figure: FigureName
    stated: float
    measured: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether the two are within the tolerance."""
        return abs(self.measured - self.stated) <= self.allowed + 1e-12

    def __str__(self) -> str:
        return (f"{self.figure}: the manifest says {self.stated:.6g}, measured {self.measured:.6g} "
                f"(tolerance {self.allowed:.2g})")


def verify(path: str | Path, task: Task) -> tuple[Check, ...]:
    """Measure a bundle on a task's test split and compare with its manifest.

    Raises:
        BundleError: The file is damaged.
        DataError: The data does not fit the bundle's inputs.
        ParityError: A figure is not what the manifest says; each is named with its tolerance.
    """
    session = load(path)
    figures, _ = judge(session, task.test)
    stated = session.manifest.compressed
    checks = []
    for name, tolerance in TOLERANCES.items():
        said, found = stated.get(name), figures.get(name)
        if said is None or found is None:
            continue
        allowed = (max(tolerance, _SAMPLES / len(task.test)) if name == "accuracy"
                   else tolerance * abs(said))
        checks.append(Check(name, said, found, allowed))
    broken = [str(check) for check in checks if not check.holds]
    if broken:
        raise ParityError(f"{path} does not hold what it says on the test split of {task.name}: "
                          f"{'; '.join(broken)}; it was altered, or this is other data")
    return tuple(checks)
