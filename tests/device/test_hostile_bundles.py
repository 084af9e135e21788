"""An agent measures what strangers send it; it must not become a way to read the device's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from onnx import TensorProto, helper

from edgewright.bundle import write_bundle
from edgewright.core import Manifest, Segment
from edgewright.device import bench_remotely
from edgewright.errors import BundleError

from .conftest import PATIENCE_S, running_agent, spec

SECRET = b"32 bytes that are nobody's matter"[:32]


def thief(location: str, length: int) -> bytes:
    """A model whose loading fails in other words as the file is there or not, and so long or not."""
    tensor = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[length],
                         data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("Cast", ["w"], ["c"], to=TensorProto.FLOAT),
         helper.make_node("ReduceSum", ["c"], ["s"]), helper.make_node("Add", ["x", "s"], ["y"])],
        "thief", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])], [tensor])
    return helper.make_model(graph, ir_version=8,
                             opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


@pytest.fixture
def make_hostile(tmp_path: Path, manifest_of: Callable[..., Manifest],
                 monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(model: bytes) -> Any:
        segment = Segment(file="segments/0.onnx", sha256="", size_bytes=0, macs=4, energy_mj=0.1,
                          ram_bytes=8)
        manifest = manifest_of(inputs=(spec("x", None, 4),), outputs=(spec("y", None, 4),),
                               segments=(segment,))
        with monkeypatch.context() as patch:
            patch.setattr("edgewright.bundle._write.refers_to_other_files", lambda _: False)
            write_bundle(tmp_path / "hostile.edge", manifest, {segment.file: model})
        return tmp_path / "hostile.edge"

    return make


def test_an_agent_gives_no_file_away_nor_that_it_is_there(tmp_path: Path, make_hostile: Any,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "root"
    temporary = tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    (folder / "secret").write_bytes(SECRET)
    monkeypatch.chdir(folder)   # the agent's, too
    answers = set()
    with running_agent(temporary) as agent:
        for location, length in (("secret", 32), ("secret", 33), ("missing", 32),
                                 ("../root/secret", 32), ("/etc/passwd", 8), ("/dev/stdin", 8)):
            path = make_hostile(thief(location, length))
            with path.open("rb") as file:
                answer = httpx.post(f"{agent.url}/bench", files=[("bundles", ("a.edge", file))],
                                    data={"rounds": "1", "seed": "0"}, timeout=PATIENCE_S)
            answers.add((answer.status_code, answer.text))
        with pytest.raises(BundleError, match="refers to tensors in another file"):
            bench_remotely(agent.url, [path], rounds=1, seed=0)
    (status, text), = answers   # the same for all of them
    assert status == 422
    assert "a.edge: segments/0.onnx refers to tensors in another file (external data)" in text
