"""The commands ``device serve`` and ``bench``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import COMMAND, EVERYWHERE, PATIENCE_S, TOKEN, running_agent


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True,
                          check=False, timeout=PATIENCE_S,
                          env={**os.environ, "COLUMNS": "200", **environment})


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.0.2.1", "example.org", ""])
def test_an_address_others_can_reach_needs_a_token(host: Any) -> None:
    done = run("device", "serve", "--host", host, "--port", 0)
    assert done.returncode == 2
    assert "so the agent needs a token; set EDGEWRIGHT_DEVICE_TOKEN" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_loopback_goes_without(tmp_path: Path, host: str) -> None:
    with running_agent(tmp_path, "--host", host) as agent:
        assert httpx.get(f"{agent.url}/health").status_code == 200


def test_a_token_guards_loopback_too(tmp_path: Path) -> None:
    with running_agent(tmp_path, "--token", TOKEN) as agent:
        assert httpx.get(f"{agent.url}/health").status_code == 401


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        done = run("device", "serve", "--port", port)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cannot listen on 127.0.0.1, port {port}: ")
    assert "give another --host or --port" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_a_terminated_agent_is_gone_and_leaves_nothing(tmp_path: Path) -> None:
    with running_agent(tmp_path) as agent:
        assert agent.stop(signal.SIGTERM) == -signal.SIGTERM
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{agent.url}/health")


def test_bench_prints_a_table_of_both(relu: Path, two_inputs: Path) -> None:
    done = run("bench", relu, "--against", two_inputs, "--rounds", 3)
    assert done.returncode == 0, done.stderr
    assert "measured on this machine" in done.stdout
    assert done.stdout.count(" ms ") == 4


def test_bench_on_a_device_prints_the_same_table(guarded_agent: Any, relu: Path) -> None:
    done = run("bench", relu, "--device", guarded_agent.url, "--rounds", 3,
               EDGEWRIGHT_DEVICE_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert f"measured on {guarded_agent.url}" in done.stdout
    assert done.stdout.count(" ms ") == 2


@pytest.mark.parametrize("where", ["here", "device"])
def test_bench_of_a_damaged_bundle_ends_with_its_own_exit_code(agent: Any, damaged: Path,
                                                               where: str) -> None:
    device = () if where == "here" else ("--device", agent.url)
    done = run("bench", damaged, *device)
    assert done.returncode == 5
    assert done.stderr.startswith(f"error: {damaged}")
    assert done.stdout == ""


_WITHOUT = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
from pathlib import Path
from edgewright.device import bench_here, bench_remotely, create_app, serve
from edgewright.errors import MissingExtraError
for call in (lambda: create_app(None), serve,
             lambda: bench_remotely("http://127.0.0.1:9", [], rounds=1, seed=0)):
    try:
        call()
    except MissingExtraError as error:
        print(error)
"""


def test_without_the_extra_the_install_line_is_given() -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT, "fastapi,uvicorn,httpx"], text=True,
                          capture_output=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.endswith("run: pip install 'edgewright[device]'") for line in lines)


def test_importing_the_package_loads_none_of_the_extra_and_no_torch() -> None:
    code = "import sys, edgewright.device; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert {"fastapi", "uvicorn", "httpx", "torch", "onnxruntime"}.isdisjoint(done.stdout.split())
