"""An integer network as bytes: a header in JSON, then the constants one after another."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from edgewright.core import Value
from edgewright.errors import BundleError
from edgewright.integers._network import IntegerNetwork, Structure

MAGIC: Final = b"edgewright integers 1\n"
_LENGTH: Final = struct.Struct("<Q")
_MAX_HEADER_BYTES: Final = 1 << 24  # a network of 10,000 steps has about 4 MB
_MAX_DIMS: Final = 4


class _Constant(Value):
    dtype: Literal["int8", "uint8", "int32"]
    shape: tuple[Annotated[int, Field(ge=1, le=2**31)], ...] = Field(max_length=_MAX_DIMS)

    @property
    def bytes(self) -> int:
        """Bytes of all elements."""
        count = 1
        for side in self.shape:
            count *= side
        return count * (4 if self.dtype == "int32" else 1)


class _Header(Value):
    structure: Structure
    constants: dict[str, _Constant]


def to_bytes(network: IntegerNetwork) -> bytes:
    """Write a network; equal networks give equal bytes."""
    header = _Header(structure=network.structure, constants={
        name: _Constant.model_validate({"dtype": str(array.dtype), "shape": array.shape})
        for name, array in network.constants.items()})
    text = header.model_dump_json().encode()
    return b"".join([MAGIC, _LENGTH.pack(len(text)), text, *(
        array.astype(array.dtype.newbyteorder("<")).tobytes()
        for array in network.constants.values())])


def from_bytes(data: bytes) -> IntegerNetwork:
    """Read what `to_bytes` wrote.

    Nothing in the bytes is code, and every step is checked against the tensors that it reads and
    writes before the network is returned.

    Raises:
        BundleError: The bytes are something else, are truncated or have too many, or describe a
            network that does not fit together.

    Example:
        >>> from_bytes(b"something else")
        Traceback (most recent call last):
            ...
        edgewright.errors.BundleError: this is not a network of integers; export it again
    """
    if not data.startswith(MAGIC):
        raise BundleError("this is not a network of integers; export it again")
    begin = len(MAGIC) + _LENGTH.size
    length = _LENGTH.unpack(data[len(MAGIC):begin])[0] if len(data) >= begin else -1
    if not 0 <= length <= min(_MAX_HEADER_BYTES, len(data) - begin):
        raise BundleError(f"the network's header is truncated, or longer than {_MAX_HEADER_BYTES} "
                          "bytes; export it again")
    try:
        header = _Header.model_validate_json(data[begin:begin + length])
        return IntegerNetwork(header.structure, dict(_read_constants(
            header.constants, memoryview(data)[begin + length:])))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"the network cannot be read: {where}: {first['msg']}; export it again"
                          ) from error
    except ValueError as error:
        raise BundleError(f"the network cannot be read: {error}; export it again") from error


def _read_constants(constants: Mapping[str, _Constant],
                    content: memoryview) -> Iterator[tuple[str, NDArray[Any]]]:
    total = sum(constant.bytes for constant in constants.values())
    if total != len(content):
        raise ValueError(f"its constants have {len(content)} bytes, expected {total}")
    offset = 0
    for name, constant in constants.items():
        part = content[offset:offset + constant.bytes]
        stored = np.frombuffer(part, np.dtype(constant.dtype).newbyteorder("<"))
        yield name, stored.astype(constant.dtype).reshape(constant.shape)
        offset += constant.bytes
