"""A metric with its provenance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from edgewright.core._settings import Value

FigureName = Literal["accuracy", "size_bytes", "parameters", "ram_bytes",
                     "latency_ms", "mean_latency_ms", "macs", "energy_mj"]

UNITS: Final[dict[FigureName, str]] = {
    "accuracy": "fraction", "size_bytes": "B", "parameters": "count", "ram_bytes": "B",
    "latency_ms": "ms", "mean_latency_ms": "ms", "macs": "MAC/sample", "energy_mj": "mJ/sample",
}


class Measurement(Value):
    """A metric with its provenance: value, unit, data, runtime, and measured or modelled.

    Attributes:
        name: Which metric, see `UNITS`.
        value: In the metric's base unit, see `UNITS`.
        kind: ``measured`` on a runtime, or ``modelled`` from counts.
        split: The data split it was taken on, if any.
        runtime: The engine it was measured on ("onnxruntime 1.31.1", "torch 2.13.0"), or the name
            of the cost model.
        samples: Number of samples or runs; 0 if that does not apply.
        low: 10th percentile over the runs, if the metric varies between them.
        high: 90th percentile over the runs, if the metric varies between them.

    Example:
        >>> Measurement(name="accuracy", value=0.9173, kind="measured", split="test").unit
        'fraction'
    """

    name: FigureName
    value: float
    kind: Literal["measured", "modelled"]
    split: str | None = None
    runtime: str | None = None
    samples: int = 0
    low: float | None = None
    high: float | None = None

    @property
    def unit(self) -> str:
        """The base unit of this metric."""
        return UNITS[self.name]


class Figures(Value):
    """The metrics of one file or one stage, at most one per name.

    Example:
        >>> figures = Figures.of(Measurement(name="size_bytes", value=10, kind="measured"))
        >>> figures["size_bytes"], figures.get("macs")
        (10.0, None)
    """

    measurements: tuple[Measurement, ...] = ()

    @classmethod
    def of(cls, *measurements: Measurement) -> Figures:
        """Collect measurements; a later one replaces an earlier one of the same name."""
        return cls(measurements=tuple({m.name: m for m in measurements}.values()))

    def with_(self, *measurements: Measurement) -> Figures:
        """These metrics plus others, which replace those of the same name."""
        return Figures.of(*self.measurements, *measurements)

    def find(self, name: FigureName) -> Measurement | None:
        """The measurement of that name, or None."""
        return next((m for m in self.measurements if m.name == name), None)

    def get(self, name: FigureName) -> float | None:
        """The value of that name, or None."""
        found = self.find(name)
        return None if found is None else found.value

    def __getitem__(self, name: FigureName) -> float:
        found = self.find(name)
        if found is None:
            raise KeyError(name)
        return found.value

    def names(self) -> Iterator[FigureName]:
        """The names present, in order."""
        return (m.name for m in self.measurements)
