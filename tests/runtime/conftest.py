"""Small ONNX models, bundled: one whole, one with two early exits, and how to make others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from edgewright.bundle import Bundle, read_bundle, write_bundle
from edgewright.core import ExitRule, Manifest, OperatingPoint, Segment, TensorSpec

IN, WIDTH, CLASSES = 4, 6, 3
THRESHOLDS = (0.8, 0.6)
MACS = (100, 1000, 10000)
ENERGY = (0.5, 0.25, 8.0)


def spec(name: str, *shape: int | None, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def parse(graph: str, **weights: np.ndarray) -> bytes:
    """An ONNX file from the text of its graph and its weights."""
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]>' + graph)
    model.graph.initializer.extend(numpy_helper.from_array(array, name)
                                   for name, array in weights.items())
    return model.SerializeToString()


@pytest.fixture(scope="session")
def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    shapes = {"head0": (IN, CLASSES), "body0": (IN, WIDTH), "head1": (WIDTH, CLASSES),
              "body1": (WIDTH, WIDTH), "head2": (WIDTH, CLASSES)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def make_bundle(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> Callable[..., Bundle]:
    """Write and read back a bundle of these models; keywords replace the manifest's fields."""
    def make(models: list[bytes], inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...],
             thresholds: tuple[float, ...] = (), **fields: object) -> Bundle:
        segments = tuple(
            Segment(file=f"segments/{i}.onnx", sha256="", size_bytes=0, macs=MACS[i],
                    energy_mj=ENERGY[i], ram_bytes=8)
            for i in range(len(models)))
        rules = tuple(ExitRule(threshold=threshold) for threshold in thresholds)
        fields = {"points": (OperatingPoint(name="default", path=range(len(models)), rules=rules),)
                  if rules else (), **fields}
        manifest = manifest_of(inputs=inputs, outputs=outputs, segments=segments, **fields)
        path = tmp_path / "model.edge"
        write_bundle(path, manifest, {s.file: m for s, m in zip(segments, models, strict=False)})
        return read_bundle(path)

    return make


@pytest.fixture
def staged_bundle(make_bundle: Callable[..., Bundle], weights: dict[str, np.ndarray]) -> Bundle:
    """Two early exits before the end."""
    def early(size: int, head: str, body: str) -> bytes:
        return parse(f"""s (float[N, {size}] x) => (float[N, {CLASSES}] logits,
                         float[N, {WIDTH}] features) {{
                         logits = MatMul(x, head)  hidden = MatMul(x, body)
                         features = Relu(hidden) }}""", head=weights[head], body=weights[body])

    last = parse(f"s (float[N, {WIDTH}] x) => (float[N, {CLASSES}] y) {{ y = MatMul(x, head) }}",
                 head=weights["head2"])
    models = [early(IN, "head0", "body0"), early(WIDTH, "head1", "body1"), last]
    return make_bundle(models, (spec("x", None, IN),), (spec("y", None, CLASSES),), THRESHOLDS)


@pytest.fixture
def whole_bundle(make_bundle: Callable[..., Bundle], weights: dict[str, np.ndarray]) -> Bundle:
    """One segment, two inputs, two outputs."""
    model = parse(f"""s (float[N, {IN}] a, int64[N, 1] b) => (float[N, {CLASSES}] y,
                      int64[N, 1] z) {{ y = MatMul(a, head)  z = Neg(b) }}""",
                  head=weights["head0"])
    return make_bundle([model], (spec("a", None, IN), spec("b", None, 1, dtype="int64")),
                       (spec("y", None, CLASSES), spec("z", None, 1, dtype="int64")))
