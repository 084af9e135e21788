"""Detect whether an ONNX file keeps tensors in other files, from its bytes alone.

Loading such a file opens the files it names, relative to the working directory. The edge wing does
not have the onnx package, and a runtime would open them before it could be asked, so the protobuf
is parsed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

# Fields that can contain tensors, by message and field number (onnx.proto).
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
_MAX_VARINT_BYTES: Final = 10
_MAX_KEY: Final = 2**32 - 1
_MAX_FIELDS: Final = 2_000_000   # takes seconds; a network of 1,000 nodes has about 20,000


def has_external_data(model: bytes) -> bool:
    """Whether any tensor of an ONNX file, in any graph, refers to data in another file.

    The check is conservative: parsers differ in how they merge repeated or truncated fields, so any
    mention of external data counts, even if a later field overrides it.

    Args:
        model: The bytes of the file.

    Raises:
        ValueError: The bytes are not a protobuf, or have a structure or a number of fields that no
            exporter writes.

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
            if seen > _MAX_FIELDS:
                raise ValueError(f"it has more than {_MAX_FIELDS} fields")
            if kind == _BYTES and field in inside:
                pending.append((inside[field], value, after))
            elif message == "TensorProto" and _refers_to_other_file(field, kind, value):
                return True
    return False


def refers_to_other_files(segment: bytes) -> bool:
    """As `has_external_data`, but False for other formats, which the engine validates."""
    try:
        return has_external_data(segment)
    except ValueError:
        return False


def _refers_to_other_file(field: int, kind: int, value: int) -> bool:
    return field == _EXTERNAL_DATA or (
        field == _DATA_LOCATION and not (kind == _VARINT and value == 0))


def _fields(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Fields of a message: number, wire type, value of a varint or offset of any other, end."""
    at = begin
    while at < end:
        key, at = _varint(data, at, end)
        field, kind = key >> 3, key & 7
        if not field or key > _MAX_KEY:
            raise ValueError(f"field number {field} is invalid")
        if kind == _VARINT:
            value, at = _varint(data, at, end)
        elif kind == _BYTES:
            size, value = _varint(data, at, end)
            at = value + size
        elif kind in _FIXED:
            value, at = at, at + _FIXED[kind]
        else:
            raise ValueError(f"field {field} has wire type {kind}, which ONNX does not use")
        if at > end:
            raise ValueError(f"field {field} is truncated")
        yield field, kind, value, at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A variable-length integer of any encoded length, and the offset behind it."""
    if at < end and data[at] < 0x80:
        return data[at], at + 1   # fast path: most are one byte
    value = 0
    for place in range(at, min(end, at + _MAX_VARINT_BYTES)):
        byte = data[place]
        value |= (byte & 0x7F) << 7 * (place - at)
        if byte < 0x80:
            return value, place + 1
    raise ValueError("a varint is truncated")
