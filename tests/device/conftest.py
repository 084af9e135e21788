"""Small bundles, and agents that really run: in a process of their own, or in a thread."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import onnx.parser
import pytest
import uvicorn

from edgewright.bundle import write_bundle
from edgewright.core import Manifest, Segment, TensorSpec
from edgewright.device import create_app

TOKEN = "right-token"  # noqa: S105
COMMAND = [sys.executable, "-c", "from edgewright.cli import main; main()"]
EVERYWHERE = "0.0.0.0"  # noqa: S104
PATIENCE_S = 60.0


def spec(name: str, *shape: int | None, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEWRIGHT_DEVICE_TOKEN", raising=False)


@pytest.fixture
def make_bundle(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> Callable[..., Path]:
    """Write a bundle of one model in ONNX's text form; the manifest states these inputs."""
    def make(name: str, graph: str, *inputs: TensorSpec, **fields: object) -> Path:
        model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]>' + graph)
        segment = Segment(file="segments/0.onnx", sha256="", size_bytes=0, macs=4, energy_mj=0.1,
                          ram_bytes=8)
        manifest = manifest_of(inputs=inputs, outputs=(spec("y", None, 4),), segments=(segment,),
                               **fields)
        path = tmp_path / name
        write_bundle(path, manifest, {"segments/0.onnx": model.SerializeToString()})
        return path

    return make


@pytest.fixture
def relu(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle("relu.edge", "g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }",
                       spec("x", None, 4))


@pytest.fixture
def two_inputs(make_bundle: Callable[..., Path]) -> Path:
    """Other inputs than the other bundle's, one of integers, one of booleans."""
    return make_bundle("two inputs.edge", """
        g (float[N, 2, 3] a, int64[N, 1] b, bool[N, 1] c) => (float[N, 2, 3] y, int64[N, 1] z,
            bool[N, 1] n) { y = Neg(a)  z = Neg(b)  n = Not(c) }""",
        spec("a", None, 2, 3), spec("b", None, 1, dtype="int64"), spec("c", None, 1, dtype="bool"))


@pytest.fixture
def damaged(relu: Path) -> Path:
    data = bytearray(relu.read_bytes())
    data[60] ^= 0xFF
    path = relu.with_name("damaged.edge")
    path.write_bytes(data)
    return path


@dataclass(frozen=True)
class Agent:
    """A running agent, and the folder its temporary files go to."""

    url: str
    temporary: Path
    process: subprocess.Popen[str]

    def stop(self, by: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(by)
        return self.process.wait(PATIENCE_S)


@contextmanager
def running_agent(temporary: Path, *options: str, **environment: str) -> Iterator[Agent]:
    """``edgewright device serve``, ended with the block; it must leave no file and no traceback."""
    complaints = temporary.with_name(f"{temporary.name}.stderr")
    with complaints.open("w") as stderr:
        process = subprocess.Popen(
            [*COMMAND, "device", "serve", "--port", "0", *options], stdout=subprocess.PIPE,
            stderr=stderr, text=True, env={**os.environ, "TMPDIR": str(temporary), **environment})
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        assert said.startswith("listening on http://"), said
        agent = Agent(said.split()[-1], temporary, process)
        yield agent
        if process.poll() is None:
            assert agent.stop() == 0
        assert list(temporary.iterdir()) == []
        assert "Traceback" not in complaints.read_text()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with running_agent(tmp_path_factory.mktemp("agent")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with running_agent(tmp_path_factory.mktemp("guarded"), "--host", EVERYWHERE,
                       EDGEWRIGHT_DEVICE_TOKEN=TOKEN) as running:
        yield Agent(running.url.replace(EVERYWHERE, "127.0.0.1"), running.temporary,
                    running.process)


@pytest.fixture
def small_agent() -> Iterator[str]:
    """An agent that takes 10 kB at once, in a thread."""
    config = uvicorn.Config(create_app(None, max_upload_bytes=10_000), log_level="warning")
    server = uvicorn.Server(config)
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        stack.callback(thread.join)
        stack.callback(setattr, server, "should_exit", True)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def wait_until_busy(url: str, busy: bool) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while httpx.get(f"{url}/health").json()["busy"] is not busy:
        assert time.monotonic() < give_up
        time.sleep(0.01)


def begun_upload(url: str, stated_bytes: int) -> socket.socket:
    """A connection over which the headers of a bench request went."""
    address = httpx.URL(url)
    connection = socket.create_connection((address.host, address.port), PATIENCE_S)
    connection.sendall(f"POST /bench HTTP/1.1\r\nHost: {address.host}\r\n"
                       f"Connection: close\r\nContent-Length: {stated_bytes}\r\n"
                       "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode())
    return connection


@contextmanager
def unfinished_upload(url: str) -> Iterator[socket.socket]:
    """A bench request whose bundles never arrive in full."""
    with begun_upload(url, 1000) as connection:
        connection.sendall(b"--b\r\n")
        wait_until_busy(url, True)
        yield connection
    wait_until_busy(url, False)
