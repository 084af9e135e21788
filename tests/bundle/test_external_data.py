"""A bundle is never a way to read the files of whoever opens it."""

from __future__ import annotations

import ctypes
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper, numpy_helper

import edgewright as ew
from edgewright.bundle import _external_data as walker
from edgewright.bundle import describe_low_bits, has_external_data, read_bundle, write_bundle
from edgewright.core import Manifest, Segment
from edgewright.errors import BundleError, UsageError
from edgewright.runtime import OnnxEngine, OpenVinoEngine

SECRET = "secret.txt"  # noqa: S105  (a file's name)
CONTENT = bytes(range(65, 97))


def elsewhere(name: str = "w", location: str = SECRET) -> TensorProto:
    """32 bytes, to be had from another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.UINT8, dims=[len(CONTENT)],
                         data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(CONTENT)))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def thief(location: str = SECRET, *more: TensorProto) -> bytes:
    """A model that gives away another file: it adds its bytes to its inputs."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["w"], ["c"], to=TensorProto.FLOAT),
         helper.make_node("Add", ["x", "c"], ["y"])], "thief",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", len(CONTENT)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", len(CONTENT)])],
        [elsewhere(location=location), *more])
    return helper.make_model(graph, ir_version=8,
                             opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


@contextmanager
def opened(path: Path) -> Iterator[list[int]]:
    """How often the block opened a file, whoever did it: asked of the kernel (inotify)."""
    if not sys.platform.startswith("linux"):
        pytest.skip("inotify is Linux's")
    libc = ctypes.CDLL(None, use_errno=True)
    watcher = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watcher, os.fsencode(path), 0x20) > 0   # IN_OPEN
    counts: list[int] = []
    try:
        yield counts
        try:
            counts.append(len(os.read(watcher, 65536)) // 16)
        except BlockingIOError:
            counts.append(0)
    finally:
        os.close(watcher)


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / SECRET).write_bytes(CONTENT)
    monkeypatch.chdir(folder)
    return folder / SECRET


@pytest.fixture
def make_hostile(tmp_path: Path, make_manifest: Callable[..., Manifest],
                 monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write what `write_bundle` would refuse, whole and sealed, as a hostile sender would."""
    def make(model: bytes, **fields: object) -> Path:
        segment = Segment(file="segments/0.onnx", sha256="", size_bytes=0, macs=1, energy_mj=0.1,
                          ram_bytes=8, **fields)
        with monkeypatch.context() as patch:
            patch.setattr("edgewright.bundle._write.refers_to_other_files", lambda _: False)
            write_bundle(tmp_path / "hostile.edge", make_manifest().with_model(segments=(segment,)),
                         {segment.file: model})
        return tmp_path / "hostile.edge"

    return make


REFUSED = (r"hostile.edge: segments/0.onnx refers to tensors in another file \(external data\), but "
           "a bundle must be self-contained; that file was not opened")


def test_the_attack_is_real(secret: Path) -> None:
    """Without our care ONNX Runtime hands the file out; and the watch sees it opened."""
    with opened(secret) as count:
        session = onnxruntime.InferenceSession(thief(), providers=["CPUExecutionProvider"])
        stolen, = session.run(None, {"x": np.zeros((1, len(CONTENT)), np.float32)})
    assert stolen.astype(np.uint8).tobytes() == CONTENT
    assert count[0] > 0


@pytest.mark.parametrize("location", [SECRET, f"../root/{SECRET}", "missing.txt", "/etc/passwd",
                                      "*/_ORT_MEM_ADDR_/*", ""])
def test_a_bundle_that_reads_another_file_is_refused_and_tells_nothing(secret: Path, make_hostile: Callable[..., Path],
                                                                       location: Any) -> None:
    path = make_hostile(thief(location))
    with opened(secret) as count, pytest.raises(BundleError, match=REFUSED) as caught:
        ew.load(path)
    assert count == [0]
    assert location not in str(caught.value) or not location


def test_packed_integers_hide_nothing(secret: Path, make_hostile: Callable[..., Path]) -> None:
    integers = np.random.default_rng(0).integers(-2, 2, 6000, dtype=np.int8)
    model = thief(SECRET, numpy_helper.from_array(integers, "packed"))
    place = describe_low_bits(model, model.index(integers.tobytes()), integers.size)
    path = make_hostile(model, low_bit=(place,))
    assert "segments/0.onnx.packed" in zipfile.ZipFile(path).namelist()
    with opened(secret) as count, pytest.raises(BundleError, match=REFUSED):
        read_bundle(path)
    assert count == [0]


def test_no_bundle_is_written_that_could_not_be_read(tmp_path: Path,
                                                     make_manifest: Callable[..., Manifest]) -> None:
    with pytest.raises(UsageError, match=r"segments/0.onnx refers to tensors in another file"):
        write_bundle(tmp_path / "a.edge", make_manifest(names=("segments/0.onnx",)),
                     {"segments/0.onnx": thief()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", [OnnxEngine, OpenVinoEngine])
def test_engines_open_nothing_either(secret: Path, engine: Any) -> None:
    if engine is OpenVinoEngine:
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    with opened(secret) as count, pytest.raises(BundleError, match="external data"):
        engine(thief())
    assert count == [0]


def test_onnx_runtime_itself_is_told_to_look_nowhere(secret: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """Should it ever see a tensor that we do not."""
    monkeypatch.setattr("edgewright.runtime.engines._onnxruntime.check_self_contained",
                        lambda *_: None)
    with opened(secret) as count:
        with pytest.raises(BundleError, match="cannot load the model"):
            OnnxEngine(thief())
        with pytest.raises(BundleError, match="cannot load the model"):
            OnnxEngine(thief(f"../root/{SECRET}"))
    assert count == [0]


def test_onnx_runtimes_own_format_is_no_way_in(tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are no protobuf, so that their tensors would go unseen."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.save_model_format", "ORT")
    harmless = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]> '
                                       'g (float[N] x) => (float[N] y) { y = Neg(x) }')
    onnxruntime.InferenceSession(harmless.SerializeToString(), options)
    content = (tmp_path / "model.ort").read_bytes()
    assert onnxruntime.InferenceSession(content).get_inputs()[0].name == "x"
    monkeypatch.setattr("edgewright.runtime.engines._onnxruntime.check_self_contained", lambda *_: None)
    with pytest.raises(BundleError, match="cannot load the model"):
        OnnxEngine(content)


# The walker, beside onnx's own description of the format.

def _holds_tensors() -> dict[str, dict[int, str]]:
    """Every message from which a tensor can be reached, of onnx's descriptors."""
    messages, pending = {}, [ModelProto.DESCRIPTOR]
    while pending:
        message = pending.pop()
        if message.name not in messages:
            messages[message.name] = {field.number: field.message_type.name
                                      for field in message.fields if field.message_type}
            pending += [field.message_type for field in message.fields if field.message_type]
    reach = {"TensorProto"}
    for _ in messages:
        reach |= {name for name, inside in messages.items() if reach & set(inside.values())}
    return {name: {number: kind for number, kind in messages[name].items()
                   if kind in reach and name != "TensorProto"} for name in reach}


def test_the_walker_knows_every_place_of_a_tensor() -> None:
    assert {name: dict(inside) for name, inside in walker._TENSORS_IN.items()} == _holds_tensors()
    assert TensorProto.DESCRIPTOR.fields_by_name["external_data"].number == walker._EXTERNAL_DATA
    assert TensorProto.DESCRIPTOR.fields_by_name["data_location"].number == walker._DATA_LOCATION


def _place(tensor: TensorProto, *names: str) -> bytes:
    """A model with a tensor where the names lead."""
    model = ModelProto(ir_version=8)
    at = model
    for name in names:
        at = getattr(at, name)
        at = at.add() if hasattr(at, "add") else at
    at.CopyFrom(tensor)
    return model.SerializeToString()


PLACES = [f"graph.{rest}" for rest in (
    "initializer", "sparse_initializer.values", "sparse_initializer.indices", "node.attribute.t",
    "node.attribute.tensors", "node.attribute.sparse_tensor.values",
    "node.attribute.sparse_tensors.indices", "node.attribute.g.initializer",
    "node.attribute.graphs.node.attribute.g.node.attribute.tensors")] + [
    "functions.node.attribute.t", "functions.attribute_proto.g.initializer",
    "training_info.initialization.initializer", "training_info.algorithm.node.attribute.t"]


@pytest.mark.parametrize("place", PLACES)
def test_an_external_tensor_is_found_wherever_it_is(place: Any) -> None:
    names = place.split(".")
    assert not has_external_data(_place(numpy_helper.from_array(np.ones(3)), *names))
    assert has_external_data(_place(elsewhere(), *names))
    assert has_external_data(_place(TensorProto(data_location=TensorProto.EXTERNAL), *names))


def nested(depth: int) -> bytes:
    """A tensor in as many graphs, each in an attribute of the one before."""
    graph = GraphProto(initializer=[elsewhere()])
    for _ in range(depth):
        node = onnx.NodeProto(attribute=[AttributeProto(g=graph)])
        graph = GraphProto(node=[node])
    return ModelProto(graph=graph).SerializeToString()


def test_no_depth_hides_a_tensor() -> None:
    assert has_external_data(nested(20))


def _message(*fields: tuple[int, bytes]) -> bytes:
    """Length-delimited fields, by their number."""
    parts = []
    for number, content in fields:
        parts += [_varint(number << 3 | 2), _varint(len(content)), content]
    return b"".join(parts)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


LOCATION = bytes([14 << 3])
EXTERNAL = LOCATION + b"\x01"
TRICKS = {
    "a number in more bytes than it needs": LOCATION + b"\x81\x80\x80\x80\x00",
    "a key in more bytes than it needs": b"\xf0\x80\x80\x00\x01",
    "a number that is 1 once it is cut to 32 bits": LOCATION + _varint(2**32 + 1),
    "a number that is 1 once it is cut to 64 bits": LOCATION + b"\x81" + b"\x80" * 8 + b"\x02",
    "taken back later": EXTERNAL + LOCATION + b"\x00",
    "after what was there before": LOCATION + b"\x00" + EXTERNAL,
    "behind unknown fields": _message((500, b"x" * 300)) + b"\x98\x06\x05" + EXTERNAL,
    "data without a location": _message((13, b"")),
    "a packed number": _message((14, b"\x01")),
    "a number of another type": b"\x75\x01\x00\x00\x00",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_of_the_encoding_hides_nothing(trick: Any) -> None:
    tensor = TRICKS[trick]
    assert has_external_data(_message((7, _message((5, tensor)))))
    split = _message((7, _message((1, b""))), (7, b""), (7, _message((5, b""), (5, tensor))))
    assert has_external_data(split)   # the parts of a message given twice are merged


def test_an_attributes_tensor_in_two_parts_is_one() -> None:
    parts = _message((5, EXTERNAL), (5, _message((13, _message((1, b"location"))))))
    model = _message((7, _message((1, _message((5, parts))))))
    merged = ModelProto.FromString(model).graph.node[0].attribute[0].t
    assert (merged.data_location, len(merged.external_data)) == (1, 1)
    assert has_external_data(model)


@pytest.mark.parametrize("model", [
    b"\x3b" + EXTERNAL + b"\x3c",                  # a group
    _message((7, b"x"))[:-1],                      # cut short
    b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x02\x00", b"\x3f", b"\xff" * 12, b"<?xml version='1.0'?>", b"\x80\x80\x80\x80\x80\x01\x00",
])
def test_what_no_exporter_writes_is_not_judged(model: Any) -> None:
    with pytest.raises(ValueError, match=r"field number|wire type|truncated"):
        has_external_data(model)


def test_a_file_of_endless_fields_is_refused_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed it would be a few kilobytes, and walking it would take hours."""
    monkeypatch.setattr(walker, "_MAX_FIELDS", 10_000)
    endless = b"\x08\x00" * 10_001
    with pytest.raises(ValueError, match="it has more than 10000 fields"):
        has_external_data(endless)
    with pytest.raises(BundleError, match="cannot load the model: it has more than 10000 fields"):
        OnnxEngine(endless)
    assert not has_external_data(endless[2:])


def _any_external(message: Any) -> bool:
    """The slow, obvious way, of a message that protobuf itself has read."""
    if isinstance(message, TensorProto):
        return message.data_location == TensorProto.EXTERNAL
    parts = [value for field, value in message.ListFields() if field.message_type]
    return any(_any_external(one) for part in parts
               for one in ([part] if hasattr(part, "ListFields") else part))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([nested(1), *(_place(elsewhere(), *place.split(".")) for place in PLACES)]),
       st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), max_size=4))
def test_it_finds_all_that_protobuf_reads(model: Any, changes: Any) -> None:
    changed = bytearray(model)
    for place, content in changes:
        changed[place:place + len(content)] = content
    try:
        read = ModelProto.FromString(bytes(changed))
    except DecodeError:
        return
    if _any_external(read):
        try:
            assert has_external_data(bytes(changed))
        except ValueError:
            return   # which an engine refuses
