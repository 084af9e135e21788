"""What a bundle says of itself: versioned JSON, every figure with where it comes from."""

from __future__ import annotations

from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from edgewright.core._budget import Breach, Budget
from edgewright.core._measurement import Figures
from edgewright.core._operating_point import CurvePoint, OperatingPoint
from edgewright.core._preprocessing import Preprocessing
from edgewright.core._settings import Value

FORMAT_VERSION: Final = 3


class TensorSpec(Value):
    """An input or output: name, numpy dtype name, shape with None for the batch dimension."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class LowBitTensor(Value):
    """A stretch of a segment's file whose bytes, read as int8, are integers of few bits.

    The bundle stores the stretch apart, several integers to a byte: the n-th integer of a byte,
    from the lowest bits up, is ``low + step * digit``.

    Attributes:
        offset: Where the stretch begins in the file, in bytes.
        count: Integers, and bytes, in it.
        bits: Of a digit.
        low: The lowest integer.
        step: Between two neighbouring integers; 2 where they are -1 and 1.
    """

    offset: int = Field(ge=0)
    count: int = Field(ge=1)
    bits: int = Field(ge=1, le=4)
    low: int = Field(ge=-128, le=127)
    step: int = Field(default=1, ge=1, le=255)

    @property
    def packed_bytes(self) -> int:
        """Bytes of the packed integers, before compression.

        Example:
            >>> LowBitTensor(offset=0, count=9, bits=2, low=-2).packed_bytes
            3
        """
        return -(-self.count // (8 // self.bits))


class Segment(Value):
    """One model file of the bundle.

    The first segment of an operating point takes the model's inputs, and so does one that ``reads``
    them; any other takes the last output of the segment before.

    Attributes:
        file: Its path inside the bundle.
        sha256: Checksum of the file's bytes, in hex.
        size_bytes: Of the file once it is unpacked: what it takes in memory, beside the engine's
            own copies.
        stored_bytes: Of the file in the bundle, packed and compressed.
        low_bit: What of the file is stored as packed integers, in the file's order.
        macs: Multiply-accumulates of this segment for one sample.
        energy_mj: Modelled energy of this segment for one sample.
        ram_bytes: Modelled peak activation memory of this segment for one sample.
        reads: What it takes where it is not the first: the features of the segment before, or
            the model's ``inputs`` again, as the larger model of a cascade does.
    """

    file: str
    sha256: str
    size_bytes: int
    macs: int
    energy_mj: float
    ram_bytes: int
    reads: Literal["features", "inputs"] = "features"
    stored_bytes: int = 0
    low_bit: tuple[LowBitTensor, ...] = ()


class StageRecord(Value):
    """What one stage of a run did: its time, and the figures of the program it left behind."""

    name: str
    seconds: float
    figures: Figures
    notes: tuple[str, ...] = ()


class LayerRecord(Value):
    """One layer before and after: channels, bits, MACs for one sample.

    ``channels`` and ``macs`` are zero for a layer that is gone; ``channels_before`` and
    ``macs_before`` are zero for one that was added (an exit's head).

    Attributes:
        weight_bits: Bits of the integers that stand for the weights; 32 in floating point.
        activation_bits: The same of what the layer reads.
        compute_bits: What the engine's kernel multiplies in. Where it is more than the others,
            they are stored in fewer bits but not computed in them.
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
    """Median latencies of one layer, measured alone on the manifest's machine.

    Attributes:
        float_ms: Weights and activations in floating point.
        int8_ms: Both in 8 bits.
    """

    name: str
    float_ms: float
    int8_ms: float


class Parity(Value):
    """How far the file on its runtime is from the simulated program, on one split.

    Attributes:
        samples: Samples compared.
        relative_error: Norm of the difference of the logits over the norm of the logits.
        top1_agreement: Share of samples with the same top class.
    """

    split: str
    samples: int
    relative_error: float
    top1_agreement: float


class Manifest(Value):
    """The record a bundle carries, and the run directory's ``manifest.json``.

    Attributes:
        format_version: Of this schema; a reader refuses another.
        versions: Package name to version, of everything that shaped the file.
        machine: Processor and core count the measured figures were taken on.
        runtime: Engine that runs the segments ("onnxruntime").
        points: Ways through the segments, the default first; empty for the segments in order,
            none of which is left early.
        curve: What the default point would cost and be worth with other thresholds, from nobody
            leaving early to everybody; empty without exits.
        original: Figures of the original model's file on the same runtime.
        compressed: Figures of this bundle.
        simulated: Figures of the same program in PyTorch, beside the measured ones.
        unquantized: Latency of the same program before it was quantised, timed in turn with the
            files; empty where nothing was.
        slow_layers: Where a quantised file is slower than the original or than ``unquantized``,
            the layers that are slower in 8 bits, the costliest first.
        breaches: Limits of the budget that are not held; empty when the budget is met.
    """

    format_version: Literal[3] = FORMAT_VERSION
    model: str
    data: str
    recipe: dict[str, Any]
    seed: int
    budget: Budget
    versions: dict[str, str]
    machine: str
    runtime: str = "onnxruntime"
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    classes: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    segments: tuple[Segment, ...]
    points: tuple[OperatingPoint, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    original: Figures
    compressed: Figures
    simulated: Figures
    unquantized: Figures = Figures()
    slow_layers: tuple[LayerLatency, ...] = ()
    parity: Parity | None = None
    stages: tuple[StageRecord, ...] = ()
    layers: tuple[LayerRecord, ...] = ()
    uncounted: tuple[str, ...] = ()
    breaches: tuple[Breach, ...] = ()

    @model_validator(mode="after")
    def _points_fit(self) -> Self:
        names = [point.name for point in self.points]
        if len(set(names)) != len(names):
            raise ValueError(f"operating points of one name: {names}")
        for point in self.points:
            if not all(0 <= number < len(self.segments) for number in point.path):
                raise ValueError(f"operating point {point.name!r} runs the segments {point.path}, "
                                 f"and there are {len(self.segments)}: one is missing")
        return self

    @property
    def point(self) -> OperatingPoint:
        """The default operating point.

        Raises:
            ValueError: There is none, and several segments.
        """
        if self.points:
            return self.points[0]
        return OperatingPoint(name="default", path=tuple(range(len(self.segments))))
