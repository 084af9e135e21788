"""What a bundle says of itself: versioned JSON, every figure with where it comes from."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from edgewright.core._budget import Breach, Budget
from edgewright.core._measurement import Figures
from edgewright.core._preprocessing import Preprocessing

FORMAT_VERSION: Final = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(_Record):
    """An input or output: name, numpy dtype name, shape with None for the batch dimension."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Segment(_Record):
    """One model file of the bundle, run in order until an exit is confident enough.

    Attributes:
        file: Its path inside the bundle.
        sha256: Checksum of the file's bytes, in hex.
        size_bytes: Of the file, before the bundle's compression.
        macs: Multiply-accumulates of this segment for one sample.
        energy_mj: Modelled energy of this segment for one sample.
        ram_bytes: Modelled peak activation memory of this segment for one sample.
        threshold: Leave after this segment when the top softmax probability of its first output
            reaches this; None for the last segment, and for models without exits.
        exit_share: Share of the test samples that left here.
    """

    file: str
    sha256: str
    size_bytes: int
    macs: int
    energy_mj: float
    ram_bytes: int
    threshold: float | None = None
    exit_share: float = 1.0


class StageRecord(_Record):
    """What one stage of a run did: its time, and the figures of the program it left behind."""

    name: str
    seconds: float
    figures: Figures
    notes: tuple[str, ...] = ()


class LayerRecord(_Record):
    """One layer before and after: channels, bits, MACs for one sample.

    ``channels`` and ``macs`` are zero for a layer that is gone; ``channels_before`` and
    ``macs_before`` are zero for one that was added (an exit's head).
    """

    name: str
    op: str
    channels_before: int
    channels: int
    macs_before: int
    macs: int
    weight_bits: int
    activation_bits: int


class Parity(_Record):
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


class Manifest(_Record):
    """The record a bundle carries, and the run directory's ``manifest.json``.

    Attributes:
        format_version: Of this schema; a reader refuses a newer one.
        versions: Package name to version, of everything that shaped the file.
        machine: Processor and core count the measured figures were taken on.
        runtime: Engine that runs the segments ("onnxruntime").
        original: Figures of the original model's file on the same runtime.
        compressed: Figures of this bundle.
        simulated: Figures of the same program in PyTorch, beside the measured ones.
        breaches: Limits of the budget that are not held; empty when the budget is met.
    """

    format_version: Literal[1] = FORMAT_VERSION
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
    original: Figures
    compressed: Figures
    simulated: Figures
    parity: Parity | None = None
    stages: tuple[StageRecord, ...] = ()
    layers: tuple[LayerRecord, ...] = ()
    uncounted: tuple[str, ...] = ()
    breaches: tuple[Breach, ...] = ()

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Confidence needed to leave at each early exit, in order."""
        return tuple(s.threshold for s in self.segments if s.threshold is not None)
