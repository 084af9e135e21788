"""How a bundle was made and what was measured on it: the report part of a manifest."""

from __future__ import annotations

from typing import Any

from edgewright.core._budget import Breach, Budget
from edgewright.core._measurement import Figures
from edgewright.core._operating_point import CurvePoint
from edgewright.core._settings import Value


class StageRecord(Value):
    """One stage of a run: its wall time, and the figures of the program it produced."""

    name: str
    seconds: float
    figures: Figures
    notes: tuple[str, ...] = ()


class LayerRecord(Value):
    """One layer before and after compression: channels, bits, MACs per sample.

    ``channels`` and ``macs`` are zero for a layer that was removed; ``channels_before`` and
    ``macs_before`` are zero for a layer that was added (an exit's head).

    Attributes:
        weight_bits: Bits per weight; 32 in floating point.
        activation_bits: Bits per input activation; 32 in floating point.
        compute_bits: Bits the engine's kernel multiplies in. If it is more than the others, the
            values are stored in fewer bits but not computed in them.
    """

    name: str
    op: str
    channels_before: int
    channels: int
    macs_before: int
    macs: int
    weight_bits: int
    activation_bits: int
    compute_bits: int


class LayerLatency(Value):
    """Median latencies of one layer, measured in isolation on the report's machine.

    Attributes:
        float_ms: Weights and activations in floating point.
        int8_ms: Weights and activations in 8 bits.
    """

    name: str
    float_ms: float
    int8_ms: float


class OutputParity(Value):
    """How far one output of the exported file is from the simulated program's.

    Attributes:
        name: Name of the output.
        relative_error: Norm of the difference over the norm of the output.
        agreement: Share of the decisions that are the same, 0 to 1.
        decision: What counts as the same decision, such as "same top class".
        max_steps: The largest absolute difference, in steps of the output: how far it moves if the
            last quantized tensors before it change by one step of their quantizers. None if nothing
            before it is quantized, so that it has no step.
        mean_steps: The mean absolute difference in these steps.

    Example:
        >>> print(OutputParity(name="age", relative_error=0.001, agreement=1.0, max_steps=0.5,
        ...                    mean_steps=0.02, decision="equal within the tolerance"))
        age: equal within the tolerance 100 %, relative error 0.001, at most 0.5 steps (mean 0.02)
    """

    name: str
    relative_error: float
    agreement: float
    decision: str
    max_steps: float | None = None
    mean_steps: float | None = None

    def __str__(self) -> str:
        of = f"{self.name}: " if self.name else ""
        return (f"{of}{self.decision} {100 * self.agreement:.4g} %, relative error "
                f"{self.relative_error:.3g}, {self.describe_steps()}")

    def describe_steps(self) -> str:
        """The errors in steps, in words."""
        if self.max_steps is None or self.mean_steps is None:
            return "nothing before it is quantized"
        return f"at most {self.max_steps:.3g} steps (mean {self.mean_steps:.3g})"


class Parity(Value):
    """How far the exported file's outputs are from the simulated program's, on one split.

    Attributes:
        samples: Samples compared.
        outputs: Every prediction; with early exits the worst exit.

    Example:
        >>> output = OutputParity(name="", relative_error=0.01, agreement=0.999,
        ...                       decision="same top class")
        >>> Parity(split="test", samples=1000, outputs=(output,)).agreement
        0.999
    """

    split: str
    samples: int
    outputs: tuple[OutputParity, ...]

    @property
    def agreement(self) -> float:
        """The agreement of the worst output."""
        return min(output.agreement for output in self.outputs)

    @property
    def relative_error(self) -> float:
        """The relative error of the worst output."""
        return max(output.relative_error for output in self.outputs)


class RouteProfile(Value):
    """Which branch of one route the samples of a split took, and what each branch costs.

    Attributes:
        segment: Number of the segment that decides.
        split: The split's name.
        samples: Samples that reached the route.
        shares: Share of these samples that took each branch.
        macs: Mean multiply-accumulates per sample of each branch, without the rest of the model;
            None for a branch that no sample took.
    """

    segment: int
    split: str
    samples: int
    shares: tuple[float, ...]
    macs: tuple[float | None, ...]


class RunReport(Value):
    """The part of a manifest that a report reads; a runtime needs none of it.

    Attributes:
        data: Name of the task's data.
        recipe: The recipe as JSON.
        seed: Seed of the run.
        budget: Limits as the user gave them.
        versions: Package name to version, of everything that shaped the file.
        machine: Processor and core count the measured figures were taken on.
        original: Figures of the original model's file on the same runtime.
        compressed: Figures of this bundle, its size included.
        simulated: Figures of the same program in PyTorch, next to the measured ones.
        unquantized: Latency of the same program before quantization, interleaved with the files'
            measurements; empty if nothing was quantized.
        slow_layers: If a quantized file is slower than the original or than ``unquantized``: the
            layers that are slower in 8 bits, the largest difference first.
        parity: Exported file against simulated program.
        curve: Cost and accuracy of the default point at other thresholds, from no early exits
            taken to all samples leaving at the first exit; empty without exits.
        routes: The branches that the samples of the test split took; empty without routes.
        exit_measure: What leaving early may cost, in words: what ``curve`` and guarantees count.
        stages: What each stage did, in order.
        layers: The network layer by layer.
        uncounted: Operators whose MACs are not counted.
        breaches: Limits of the budget that are not met; empty if the budget is met.
        unfinished: Why the run ended early and how it goes on; empty if it has finished.
    """

    data: str
    recipe: dict[str, Any]
    seed: int
    budget: Budget
    versions: dict[str, str]
    machine: str
    original: Figures
    compressed: Figures
    simulated: Figures
    unquantized: Figures = Figures()
    slow_layers: tuple[LayerLatency, ...] = ()
    parity: Parity | None = None
    curve: tuple[CurvePoint, ...] = ()
    routes: tuple[RouteProfile, ...] = ()
    exit_measure: str = "accuracy"
    stages: tuple[StageRecord, ...] = ()
    layers: tuple[LayerRecord, ...] = ()
    uncounted: tuple[str, ...] = ()
    breaches: tuple[Breach, ...] = ()
    unfinished: str = ""
