"""What a runtime needs to run a bundle: tensors, segments, operating points, preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, TypeVar

from pydantic import Discriminator, Field, JsonValue, Tag, model_validator

from edgewright.core._audio_preprocessing import AudioPreprocessing
from edgewright.core._decoding import DecodeStep
from edgewright.core._operating_point import OperatingPoint
from edgewright.core._preprocessing import Preprocessing
from edgewright.core._settings import Value
from edgewright.core._size_range import Size
from edgewright.core._wiring import Wiring, check_wiring

T = TypeVar("T")

_IMAGE: Final = "image"  # the kind of a preprocessing that names none


def _kind(preprocessing: Any) -> str:
    """The kind of a preprocessing or of its fields."""
    if isinstance(preprocessing, dict):
        return str(preprocessing.get("kind", _IMAGE))
    return str(getattr(preprocessing, "kind", _IMAGE))


AnyPreprocessing: TypeAlias = Annotated[
    Annotated[Preprocessing, Tag(_IMAGE)] | Annotated[AudioPreprocessing, Tag("audio")],
    Discriminator(_kind)]


class TensorSpec(Value):
    """An input or output.

    Attributes:
        name: Its name.
        dtype: Name of its numpy dtype.
        shape: None for the batch dimension, a `SizeRange` for other dimensions of varying size.
    """

    name: str
    dtype: str
    shape: tuple[Size, ...]


class LowBitTensor(Value):
    """A range of bytes in a segment's file that, read as int8, are integers of few bits.

    The bundle stores these integers separately, several per byte: the n-th integer of a byte,
    counted from the least significant bits, is ``low + step * digit``.

    Attributes:
        offset: Start of the range in the file, in bytes.
        count: Number of integers, and of bytes, in the range.
        bits: Bits per digit, 1 to 4.
        low: The smallest integer.
        step: Difference between neighbouring integers; 2 if they are -1 and 1.
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

    The first segment of an operating point takes the model's inputs, and so does a segment whose
    ``reads`` is ``inputs``; any other takes the last output of the previous segment. Of a model
    that chooses its path, the first segment is the start, and ``wiring`` says what a segment takes
    and which segments run after it.

    Attributes:
        file: Its path inside the bundle.
        sha256: Checksum of the file's bytes, in hex.
        size_bytes: Size of the unpacked file, which is what it takes in memory in addition to the
            engine's own copies.
        stored_bytes: Size in the bundle, packed and compressed.
        low_bit: Byte ranges that are stored as packed integers, in the file's order.
        macs: Multiply-accumulates of this segment per sample.
        energy_mj: Modelled energy of this segment per sample, in millijoules.
        ram_bytes: Modelled peak activation memory of this segment per sample.
        reads: What it takes if it is not the first: the previous segment's features, or the
            model's ``inputs`` again, as the larger model of a cascade does.
        wiring: How it is connected in a model that chooses its path; None in any other model.
        score: Name of the file's output that says how sure its exit is of each sample, (N,) from 0
            to 1: its second one, after the exit's output and before the features. None if the file
            has no exit, or one whose logits the runtime scores.
    """

    file: str
    sha256: str
    size_bytes: int
    macs: int
    energy_mj: float
    ram_bytes: int
    reads: Literal["features", "inputs"] = "features"
    wiring: Wiring | None = None
    score: str | None = None
    stored_bytes: int = 0
    low_bit: tuple[LowBitTensor, ...] = ()


class ModelSpec(Value):
    """The part of a manifest that a runtime reads.

    Attributes:
        name: What reports call the model.
        runtime: Engine that runs the segments ("onnxruntime").
        inputs: The model's inputs, in order.
        outputs: The model's outputs, in order.
        states: The input that takes each state output at the next call of a stream, by names.
        structure: The outputs' names nested in lists and dicts as the model returned them.
        goal: Name of the goal that the outputs serve, such as ``classification``.
        decoding: How the outputs become answers, one step per prediction.
        classes: Class names by index, if known.
        preprocessing: How an image or a recording becomes the input; None if the input is neither.
        segments: The model files.
        points: Operating points, the default first; empty if all segments run in order and there
            are no early exits.

    Raises:
        ValueError: Two operating points share a name, a path names a segment that is missing, or
            a state names an output or input that is missing, or the segments' wiring is wrong.

    Example:
        >>> segment = Segment(file="segments/0.onnx", sha256="", size_bytes=0, macs=4,
        ...                   energy_mj=0.1, ram_bytes=8)
        >>> spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
        >>> model = ModelSpec(name="tiny", inputs=(spec,), outputs=(spec,), segments=(segment,))
        >>> model.default_point.path
        (0,)
    """

    name: str
    runtime: str = "onnxruntime"
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: dict[str, str] = Field(default_factory=dict)
    structure: JsonValue = None
    goal: str = "classification"
    decoding: tuple[DecodeStep, ...] = ()
    classes: tuple[str, ...] | None = None
    preprocessing: AnyPreprocessing | None = None
    segments: tuple[Segment, ...]
    points: tuple[OperatingPoint, ...] = ()

    @model_validator(mode="after")
    def _check_points(self) -> Self:
        outputs, inputs = ({spec.name for spec in specs} for specs in (self.outputs, self.inputs))
        if not (self.states.keys() <= outputs and set(self.states.values()) <= inputs):
            raise ValueError(f"the states {self.states} name an output or input that is missing")
        check_wiring([segment.wiring for segment in self.segments], inputs, outputs)
        names = [point.name for point in self.points]
        if len(set(names)) != len(names):
            raise ValueError(f"operating points need different names, got {names}")
        for point in self.points:
            if not all(0 <= number < len(self.segments) for number in point.path):
                raise ValueError(f"operating point {point.name!r} runs the segments {point.path}, "
                                 f"but there are only {len(self.segments)}")
        return self

    def nest(self, outputs: Sequence[T]) -> T | list[Any] | dict[str, Any]:
        """Nest a value per output, in order, as the model returned them.

        Example:
            >>> spec = TensorSpec(name="age", dtype="float32", shape=(None, 1))
            >>> segment = Segment(file="0.onnx", sha256="", size_bytes=0, macs=4, energy_mj=0.1,
            ...                   ram_bytes=8)
            >>> ModelSpec(name="tiny", inputs=(spec,), outputs=(spec,), segments=(segment,),
            ...           structure={"age": "age"}).nest([7])
            {'age': 7}
        """
        by_name = {spec.name: value for spec, value in zip(self.outputs, outputs, strict=True)}

        def fill(structure: JsonValue) -> Any:
            if isinstance(structure, dict):
                return {key: fill(part) for key, part in structure.items()}
            if isinstance(structure, list):
                return [fill(part) for part in structure]
            return by_name[str(structure)]

        if self.structure is not None:
            return fill(self.structure)  # type: ignore[no-any-return]
        return outputs[0] if len(outputs) == 1 else list(outputs)

    @property
    def is_routed(self) -> bool:
        """Whether the model chooses its path by the input, so that its segments have a wiring."""
        return any(segment.wiring is not None for segment in self.segments)

    @property
    def decides_per_call(self) -> bool:
        """Whether a route makes one decision for all samples of a call."""
        forks = [segment.wiring.fork for segment in self.segments if segment.wiring is not None]
        return any(fork is not None and not fork.per_sample for fork in forks)

    @property
    def default_point(self) -> OperatingPoint:
        """The default operating point; of a routed model its path is the start alone.

        Raises:
            ValueError: There is no operating point, and more than one segment.
        """
        if self.points:
            return self.points[0]
        count = 1 if self.is_routed else len(self.segments)
        return OperatingPoint(name="default", path=tuple(range(count)))
