"""Whether an ONNX file keeps tensors in other files, read from its bytes alone.

Whoever loads such a file opens what it names, relative to wherever the process was started. The
edge wing has no onnx package, and a runtime is asked too late, so the protobuf is walked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

# Where tensors can be, by message and field number (onnx.proto); all other fields hold none.
_TENSORS_IN: Final[Mapping[str, Mapping[int, str]]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto",
                       22: "SparseTensorProto", 23: "SparseTensorProto"},
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
_EXTERNAL_DATA: Final = 13
_DATA_LOCATION: Final = 14

_VARINT, _BYTES = 0, 2
_FIXED: Final = {1: 8, 5: 4}
_MOST_VARINT_BYTES: Final = 10
_MOST_KEY: Final = 2**32 - 1
_MOST_FIELDS: Final = 2_000_000   # seconds of work; of a network of 1,000 nodes some 20,000


def has_external_data(model: bytes) -> bool:
    """Whether any tensor of an ONNX file, in any graph, says that its data are in another file.

    It errs to one side: a parser may merge, drop or cut short what is written here, so a tensor
    counts by any mention of external data, though a later one takes it back.

    Args:
        model: The bytes of the file.

    Raises:
        ValueError: They are no protobuf, or of a form or a number of fields that no exporter
            writes.

    Example:
        >>> import onnx.parser
        >>> model = onnx.parser.parse_model('''
        ...     <ir_version: 8, opset_import: ["": 17]>
        ...     add (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }''')
        >>> has_external_data(model.SerializeToString())
        False
        >>> model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
        >>> has_external_data(model.SerializeToString())
        True
    """
    pending, seen = [("ModelProto", 0, len(model))], 0
    while pending:
        message, begin, end = pending.pop()
        inside = _TENSORS_IN[message]
        for field, kind, value, after in _fields(model, begin, end):
            seen += 1
            if seen > _MOST_FIELDS:
                raise ValueError(f"it has more than {_MOST_FIELDS} fields")
            if kind == _BYTES and field in inside:
                pending.append((inside[field], value, after))
            elif message == "TensorProto" and _tells_of_another_file(field, kind, value):
                return True
    return False


def takes_from_elsewhere(segment: bytes) -> bool:
    """As `has_external_data`, of what may be no ONNX file; the engine that runs it judges that."""
    try:
        return has_external_data(segment)
    except ValueError:
        return False


def _tells_of_another_file(field: int, kind: int, value: int) -> bool:
    return field == _EXTERNAL_DATA or (
        field == _DATA_LOCATION and not (kind == _VARINT and value == 0))


def _fields(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Fields of a message: number, wire type, value (where it begins, but of a varint), end."""
    at = begin
    while at < end:
        key, at = _varint(data, at, end)
        field, kind = key >> 3, key & 7
        if not field or key > _MOST_KEY:
            raise ValueError(f"there is no field {field}")
        if kind == _VARINT:
            value, at = _varint(data, at, end)
        elif kind == _BYTES:
            size, value = _varint(data, at, end)
            at = value + size
        elif kind in _FIXED:
            value, at = at, at + _FIXED[kind]
        else:
            raise ValueError(f"field {field} is of the wire type {kind}, which ONNX has not")
        if at > end:
            raise ValueError(f"field {field} is cut short")
        yield field, kind, value, at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A variable-length integer, in however many bytes it was written, and where it ends."""
    if at < end and data[at] < 0x80:
        return data[at], at + 1   # as most are
    value = 0
    for place in range(at, min(end, at + _MOST_VARINT_BYTES)):
        byte = data[place]
        value |= (byte & 0x7F) << 7 * (place - at)
        if byte < 0x80:
            return value, place + 1
    raise ValueError("a number is cut short")
