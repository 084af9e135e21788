"""A figure with its provenance: a metric of the task, or a cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from pydantic import model_validator

from edgewright.core._settings import Value
from edgewright.core._units import format_percent

CostName = Literal["size_bytes", "parameters", "ram_bytes", "latency_ms", "mean_latency_ms", "macs",
                   "energy_mj"]


class MetricSpec(Value):
    """Name, unit and direction of a figure.

    Attributes:
        name: The name, such as ``accuracy``, ``miou`` or ``latency_ms``.
        unit: The unit of its values; ``fraction`` is shown as a percentage, and an empty unit is
            a number without one.
        higher_is_better: Whether a higher value is better.

    Example:
        >>> MetricSpec(name="mae", unit="years", higher_is_better=False).merit(2.5)
        -2.5
    """

    name: str
    unit: str = ""
    higher_is_better: bool = True

    def merit(self, value: float) -> float:
        """The value if higher is better, else its negative."""
        return value if self.higher_is_better else -value


COSTS: Final[Mapping[str, MetricSpec]] = {
    name: MetricSpec(name=name, unit=unit, higher_is_better=False) for name, unit in {
        "size_bytes": "B", "parameters": "count", "ram_bytes": "B", "latency_ms": "ms",
        "mean_latency_ms": "ms", "macs": "MAC/sample", "energy_mj": "mJ/sample"}.items()}
ACCURACY: Final = MetricSpec(name="accuracy", unit="fraction")
_KNOWN: Final = {**COSTS, ACCURACY.name: ACCURACY}


def known_figure(name: str) -> MetricSpec | None:
    """Unit and direction of a cost or of the accuracy; None for any other metric.

    Example:
        >>> known_figure("macs").unit, known_figure("miou")
        ('MAC/sample', None)
    """
    return _KNOWN.get(name)


def format_metric(spec: MetricSpec, value: float) -> str:
    """Format a metric's value: a fraction as a percentage, else with four digits and its unit.

    Example:
        >>> format_metric(ACCURACY, 0.9173)
        '91.73 %'
        >>> format_metric(MetricSpec(name="mae", unit="years", higher_is_better=False), 4.25)
        '4.25 years'
    """
    if spec.unit == "fraction":
        return format_percent(value, 2)
    return f"{value:.4g} {spec.unit}".rstrip()


class Measurement(Value):
    """A figure with its provenance: value, unit, data, runtime, and measured or modelled.

    Attributes:
        name: Which figure: a cost, see `COSTS`, or a metric of the task.
        value: In the figure's unit.
        kind: ``measured`` on a runtime, or ``modelled`` from counts.
        unit: The unit; known for costs and the accuracy.
        higher_is_better: Whether a higher value is better; known for costs and the accuracy.
        split: The data split it was taken on, if any.
        runtime: The engine it was measured on ("onnxruntime 1.31.1", "torch 2.13.0"), or the name
            of the cost model.
        samples: Number of samples or runs; 0 if that does not apply.
        low: 10th percentile over the runs, if the figure varies between them.
        high: 90th percentile over the runs, if the figure varies between them.

    Example:
        >>> Measurement(name="accuracy", value=0.9173, kind="measured", split="test").unit
        'fraction'
        >>> Measurement.of(MetricSpec(name="psnr", unit="dB"), 31.2, split="test").is_metric
        True
    """

    name: str
    value: float
    kind: Literal["measured", "modelled"]
    unit: str = ""
    higher_is_better: bool = True
    split: str | None = None
    runtime: str | None = None
    samples: int = 0
    low: float | None = None
    high: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_known(cls, data: Any) -> Any:
        """Fill in unit and direction of the figures whose name tells them."""
        known = known_figure(data.get("name", "")) if isinstance(data, Mapping) else None
        if known is None:
            return data
        facts = {"unit": known.unit, "higher_is_better": known.higher_is_better}
        for name, fact in facts.items():
            if data.get(name, fact) != fact:
                raise ValueError(f"the {name} of {known.name} is {fact!r}, not {data[name]!r}")
        return {**data, **facts}

    @classmethod
    def of(cls, spec: MetricSpec, value: float, *, split: str | None = None,
           runtime: str | None = None, samples: int = 0) -> Measurement:
        """A measured value of a metric."""
        return cls(name=spec.name, unit=spec.unit, higher_is_better=spec.higher_is_better,
                   value=value, kind="measured", split=split, runtime=runtime, samples=samples)

    @property
    def spec(self) -> MetricSpec:
        """Name, unit and direction."""
        return MetricSpec(name=self.name, unit=self.unit, higher_is_better=self.higher_is_better)

    @property
    def is_metric(self) -> bool:
        """Whether it is a metric of the task, and not a cost."""
        return self.name not in COSTS


class Figures(Value):
    """The figures of one file or one stage, at most one per name.

    Example:
        >>> figures = Figures.of(Measurement(name="size_bytes", value=10, kind="measured"))
        >>> figures["size_bytes"], figures.get("macs"), figures.metric
        (10.0, None, None)
    """

    measurements: tuple[Measurement, ...] = ()

    @classmethod
    def of(cls, *measurements: Measurement) -> Figures:
        """Collect measurements; a later one replaces an earlier one of the same name."""
        return cls(measurements=tuple({m.name: m for m in measurements}.values()))

    def with_(self, *measurements: Measurement) -> Figures:
        """These figures plus others, which replace those of the same name."""
        return Figures.of(*self.measurements, *measurements)

    def find(self, name: str) -> Measurement | None:
        """The measurement of that name, or None."""
        return next((m for m in self.measurements if m.name == name), None)

    def get(self, name: str) -> float | None:
        """The value of that name, or None."""
        found = self.find(name)
        return None if found is None else found.value

    @property
    def metrics(self) -> tuple[Measurement, ...]:
        """The task's metrics, in order; the first one is the primary metric."""
        return tuple(m for m in self.measurements if m.is_metric)

    @property
    def metric(self) -> Measurement | None:
        """The primary metric; None if there is none."""
        return next(iter(self.metrics), None)

    def __getitem__(self, name: str) -> float:
        found = self.find(name)
        if found is None:
            raise KeyError(name)
        return found.value

    def names(self) -> Iterator[str]:
        """The names present, in order."""
        return (m.name for m in self.measurements)
