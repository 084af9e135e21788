"""Low-bit tensors are found where the file has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgewright.pipeline._segments import find_low_bit_tensors


def model_of(*arrays: Any) -> Any:
    tensors = [numpy_helper.from_array(array, str(index)) for index, array in enumerate(arrays)]
    return helper.make_model(helper.make_graph([], "g", [], [], tensors)).SerializeToString()


def weights(high: Any, count: int = 400, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(-high, high, count, dtype=np.int8, endpoint=True)


def test_every_low_bit_tensor_is_located() -> None:
    arrays = [weights(7), np.ones(300, np.float32), weights(100), weights(1), weights(3, 20),
              weights(7).view(np.uint8) & 15, weights(7)]
    data = model_of(*arrays)
    found = find_low_bit_tensors(data)
    assert [tensor.bits for tensor in found] == [4, 2, 4, 4]
    for tensor, index in zip(found, (0, 3, 5, 6), strict=True):
        assert data[tensor.offset:tensor.offset + tensor.count] == arrays[index].tobytes()
    ends = [tensor.offset + tensor.count for tensor in found]
    assert all(end <= tensor.offset for end, tensor in zip(ends, found[1:], strict=False))


def test_a_duplicated_tensor_is_found_twice() -> None:
    found = find_low_bit_tensors(model_of(weights(1), weights(1)))
    assert len(found) == 2
    assert found[0].offset + found[0].count <= found[1].offset


def test_a_float_file_has_no_low_bit_tensors() -> None:
    assert find_low_bit_tensors(model_of(np.ones(999, np.float32))) == ()
    assert find_low_bit_tensors(onnx.ModelProto().SerializeToString()) == ()
