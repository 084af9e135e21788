"""What zeros save on disk: ResNet-20 at several sparsities, float32 and int8, by three codecs.

Beside deflate and LZMA, as zip members, a bit mask of the bytes that are not zero and those bytes,
deflated each. Weights are pruned by magnitude without training: bytes are measured here, not
accuracy.

Example:
    python benchmarks/sparse_bytes.py --weights resnet20-cifar10.safetensors
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import edgewright as ew
from edgewright.bundle import _lzma
from edgewright.exporters import to_onnx
from edgewright.measure import machine
from edgewright.task import load_model

HERE: Final = Path(__file__).parent
SEED: Final = 0
PATTERNS: Final[dict[str, dict[str, Any]]] = {
    "dense": {}, "50 %": {"sparsity": 0.5}, "2:4": {"pattern": "2:4"}, "80 %": {"sparsity": 0.8},
    "90 %": {"sparsity": 0.9}}


def main() -> None:
    """Measure every row, print and store the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="trained weights; random if left out")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(SEED)
    images, labels = torch.randn(64, 3, 32, 32), torch.arange(64) % 10
    task = ew.Task((images, labels), test=(images[:20], labels[:20]))
    model = load_model(f"{HERE.parent / 'examples' / 'resnet.py'}:resnet20", arguments.weights)
    program = ew.Program.capture(model, images[:2])
    rows = {name: measure(pruned(program, settings), task) for name, settings in PATTERNS.items()}
    trained = "random" if arguments.weights is None else "trained"
    file = HERE / "results" / "sparse_bytes.json"
    known: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    known[trained] = {"command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}",
                                           *(Path(word).name for word in sys.argv[1:])]),
                      "seed": SEED, "machine": machine(), "rows": rows,
                      "versions": {"python": sys.version.split()[0], "torch": torch.__version__,
                                   "zlib": zlib.ZLIB_RUNTIME_VERSION}}
    file.write_text(json.dumps(known, indent=1) + "\n")
    print(json.dumps(known[trained], indent=1))


def pruned(program: ew.Program, settings: dict[str, Any]) -> ew.Program:
    """The program with so many zeros, by magnitude, at once."""
    if not settings:
        return program
    return ew.prune_weights(program, None, ew.WeightPruning(
        schedule="one_shot", training=None, **settings))


def measure(program: ew.Program, task: ew.Task) -> dict[str, dict[str, Any]]:
    """Bytes of the model file, plain and packed, in float32 and int8."""
    quantized = ew.quantize(program, task, ew.Quantization(calibration_samples=32))
    return {name: packed(to_onnx(stored)) for name, stored in
            {"float32": program, "int8": quantized}.items()}


def packed(data: bytes) -> dict[str, Any]:
    """Bytes of a member as the bundle packs it, and by the other codec."""
    sizes = {"onnx_bytes": len(data), "deflate_bytes": member_bytes(data, zipfile.ZIP_DEFLATED),
             "lzma_bytes": member_bytes(data, zipfile.ZIP_LZMA),
             "bit_mask_bytes": bit_mask_bytes(data)}
    codec = "lzma" if _lzma.is_worthwhile(data) else "deflate"
    return {**sizes, "codec": codec, "bundle_bytes": sizes[f"{codec}_bytes"]}


def member_bytes(data: bytes, codec: int) -> int:
    """What one zip member takes."""
    with zipfile.ZipFile(io.BytesIO(), "w", codec, compresslevel=9) as archive:
        archive.writestr("0.onnx", data)
        return archive.getinfo("0.onnx").compress_size


def bit_mask_bytes(data: bytes) -> int:
    """What a deflated mask and the deflated bytes under it take."""
    values = np.frombuffer(data, dtype=np.uint8)
    mask = np.packbits(values != 0)
    return sum(len(zlib.compress(part.tobytes(), 9)) for part in (mask, values[values != 0]))


if __name__ == "__main__":
    main()
