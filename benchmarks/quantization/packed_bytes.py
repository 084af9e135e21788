"""What low-bit weights take in a bundle: ResNet at 8, 4, 3, 2 and 1 bits, and how fast it loads.

The ONNX file is an int8 one; its weights are rounded further, with the scale of each output channel
that errs least in the square, and written over. Nothing is trained: bytes are measured here, not
accuracy. Beside the bundle's own form stand the file whole, deflated and by LZMA, the integers at
their bits, and the entropy of each tensor's integers: what a perfect coder takes that looks at one
integer at a time.

Example:
    python -m benchmarks.quantization.packed_bytes --model resnet20 \
        --weights resnet20-cifar10.safetensors
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

import edgewright as ew
from benchmarks.common.commands import running_command
from benchmarks.common.paths import RESNETS, RESULTS
from edgewright.bundle import read_bundle, write_bundle
from edgewright.bundle._archive import Member
from edgewright.core import (
    Budget,
    Figures,
    LowBitTensor,
    Manifest,
    ModelSpec,
    RunReport,
    Segment,
)
from edgewright.exporters import to_onnx
from edgewright.measure import machine
from edgewright.pipeline._segments import find_low_bit_tensors
from edgewright.task import load_model

BITS: Final = (8, 4, 3, 2, 1)
SHARES: Final = np.linspace(0.1, 1.0, 46)  # of a channel's largest weight, as the range's end
FEWEST: Final = 256
LOADS: Final = 5
NAME: Final = "segments/0.onnx"


@dataclass(frozen=True)
class StoredWeight:
    """A file in a bundle: what it takes there, and to load it."""

    segment: Segment
    load_ms: float


def main() -> None:
    """Measure every width, print and store the table."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["resnet20", "resnet56"], default="resnet20")
    parser.add_argument("--weights", type=Path, required=True, help="trained weights")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    model = int8_file(arguments.model, arguments.weights)
    rows = {f"{bits} bits": measure(*at_bits(model, bits), bits) for bits in BITS}
    file = RESULTS / "packed_bytes.json"
    known: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    known[arguments.model] = {
        "command": running_command(), "machine": machine(), "rows": rows,
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__,
                     "numpy": np.__version__, "zlib": zlib.ZLIB_RUNTIME_VERSION}}
    file.write_text(json.dumps(known, indent=1) + "\n")
    print(json.dumps(known[arguments.model], indent=1))


def int8_file(name: str, weights: Path) -> bytes:
    """An ONNX file of the network in int8; the ranges of its activations do not matter here."""
    torch.manual_seed(0)
    images, labels = torch.randn(64, 3, 32, 32), torch.arange(64) % 10
    task = ew.Task((images, labels), test=(images[:20], labels[:20]))
    network = load_model(f"{RESNETS}:{name}", weights)
    program = ew.Program.capture(network, images[:2])
    return to_onnx(ew.quantize(program, task, ew.Quantization(calibration_samples=32)))


def at_bits(model: bytes, bits: int) -> tuple[bytes, list[NDArray[np.int8]]]:
    """The file with the weights of its layers at so many bits, and these weights."""
    proto, found = onnx.load_from_string(model), []
    for tensor in proto.graph.initializer:
        if tensor.data_type != onnx.TensorProto.INT8 or len(tensor.raw_data) < FEWEST:
            continue
        weights = numpy_helper.to_array(tensor)
        rows = weights.reshape(len(weights), -1).astype(np.float64)
        rounded = rounded_rows(rows, bits).astype(np.int8)
        tensor.raw_data = rounded.tobytes()
        found.append(rounded)
    return proto.SerializeToString(deterministic=True), found


def rounded_rows(rows: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """Integers of so many bits, each row with the scale whose squared error is least."""
    if bits == 8:
        return rows
    if bits == 1:
        return np.where(rows < 0, -1.0, 1.0)
    high = (1 << (bits - 1)) - 1
    scales = np.abs(rows).max(1) * SHARES[:, None] / (high + 0.5)
    tries = np.clip(np.rint(rows / scales[..., None]), -high - 1, high)
    errors = ((tries * scales[..., None] - rows) ** 2).sum(-1)
    best: NDArray[np.float64] = tries[errors.argmin(0), np.arange(len(rows))]
    return best


def measure(model: bytes, weights: list[NDArray[np.int8]], bits: int) -> dict[str, Any]:
    """Bytes of one file in every form, and milliseconds to load its bundle."""
    whole, packed = stored(model, ()), stored(model, find_low_bit_tensors(model))
    deflated, by_lzma = (Member(model, codec).stored_bytes
                         for codec in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    count = sum(tensor.size for tensor in weights)
    return {"file_bytes": len(model), "deflate_bytes": deflated, "lzma_bytes": by_lzma,
            "integers": count, "integers_at_their_bits_bytes": -(-count * bits // 8),
            "entropy_bytes": round(sum(map(entropy_bytes, weights))),
            "packed_tensors": len(packed.segment.low_bit),
            "bundle_bytes": packed.segment.stored_bytes, "load_ms": packed.load_ms,
            "whole_bundle_bytes": whole.segment.stored_bytes, "whole_load_ms": whole.load_ms}


def stored(model: bytes, low_bit: tuple[LowBitTensor, ...]) -> StoredWeight:
    """Write a bundle of one file and load it."""
    segment = Segment(file=NAME, sha256="", size_bytes=0, macs=0, energy_mj=0, ram_bytes=0,
                      low_bit=low_bit)
    manifest = Manifest(
        model=ModelSpec(name="", inputs=(), outputs=(), segments=(segment,)),
        report=RunReport(data="", recipe={}, seed=0, budget=Budget(), versions={}, machine="",
                         original=Figures(), compressed=Figures(), simulated=Figures()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.edge")
        (written,) = write_bundle(path, manifest, {NAME: model}).model.segments
        loads = [read_bundle(path) for _ in range(LOADS)]
    assert all(load.segments[NAME] == model for load in loads)
    return StoredWeight(written, round(min(load.unpacking_ms for load in loads), 2))


def entropy_bytes(integers: NDArray[np.int8]) -> float:
    """Bytes of a tensor's integers by a coder that knows how often each occurs."""
    counts = np.unique(integers, return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8)


if __name__ == "__main__":
    main()
