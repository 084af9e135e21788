"""The client, against agents that run."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgewright.device import bench_here, bench_remotely
from edgewright.errors import BundleError, EdgewrightError, InputError, StorageError, UsageError

from .conftest import TOKEN, running_agent, spec, unfinished_upload


@contextmanager
def stranger(reply: bytes | None) -> Iterator[str]:
    """Something that is no agent: answers every request so, or (None) never."""
    stop = threading.Event()

    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            if reply is None:
                stop.wait()
            else:
                connection.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("form", ["{}", "{}/"])
def test_bundles_are_measured_in_order(agent: Any, relu: Path, two_inputs: Path, form: str) -> None:
    found = bench_remotely(form.format(agent.url), [relu, two_inputs], rounds=5, seed=2)
    assert [latency.runs for latency in found] == [5, 5]
    assert all(latency.median_ms > 0 for latency in found)
    assert list(agent.temporary.iterdir()) == []


def test_an_address_needs_no_scheme(agent: Any, relu: Path) -> None:
    bare = agent.url.removeprefix("http://")
    assert bench_remotely(bare, [relu], rounds=2, seed=0)[0].runs == 2


def test_proxies_of_the_environment_are_passed_by(agent: Any, relu: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert bench_remotely(agent.url, [relu], rounds=2, seed=0)[0].runs == 2


@pytest.mark.parametrize("fault", ["damaged", "cut", "text", "other runtime", "odd input"])
def test_a_bundle_is_refused_with_the_error_it_gives_here(agent: Any, relu: Path, damaged: Path,
                                                          make_bundle: Callable[..., Path],
                                                          fault: str) -> None:
    graph = "g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }"
    path = relu.with_name('an "odd" näme.edge')
    if fault == "damaged":
        path = damaged
    elif fault == "cut":
        path.write_bytes(relu.read_bytes()[:-30])
    elif fault == "text":
        path.write_text("not a bundle")
    elif fault == "other runtime":
        path = make_bundle("m.edge", graph, spec("x", None, 4), runtime="litert")
    else:
        path = make_bundle("m.edge", graph, spec("x", None, 10**12))
    with pytest.raises(BundleError) as here:
        bench_here([relu, path], rounds=1, seed=0)
    with pytest.raises(BundleError) as there:
        bench_remotely(agent.url, [relu, path], rounds=1, seed=0)
    assert type(there.value) is type(here.value)
    assert str(there.value) == str(here.value).replace('"', "%22")
    assert list(agent.temporary.iterdir()) == []


def test_a_bundle_that_is_missing_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "none.edge"
    with pytest.raises(BundleError) as here:
        bench_here([path], rounds=1, seed=0)
    with pytest.raises(BundleError) as there:
        bench_remotely("http://127.0.0.1:9", [path], rounds=1, seed=0)
    assert str(there.value) == str(here.value)


@pytest.mark.parametrize(("rounds", "seed"), [(0, 0), (10_001, 0), (1, -1)])
def test_bad_numbers_are_refused(agent: Any, relu: Path, rounds: int, seed: int) -> None:
    with pytest.raises(UsageError, match="must be a whole number"):
        bench_remotely(agent.url, [relu], rounds=rounds, seed=seed)


def test_no_bundles_is_an_error(agent: Any) -> None:
    with pytest.raises(UsageError, match="no bundle was sent"):
        bench_remotely(agent.url, [], rounds=1, seed=0)


def test_bundles_too_large_are_not_even_sent(agent: Any, tmp_path: Path) -> None:
    path = tmp_path / "large.edge"
    with path.open("wb") as file:
        file.truncate((256 << 20) + 1)
    with pytest.raises(InputError, match="larger than the 268 MB that the agent accepts at once"):
        bench_remotely(agent.url, [path], rounds=1, seed=0)


def test_a_device_that_cannot_store_bundles_says_so(relu: Path, tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    with running_agent(folder) as agent:
        bench_remotely(agent.url, [relu], rounds=1, seed=0)
        folder.rmdir()
        with pytest.raises(StorageError, match=f"cannot store the bundles: .* in {folder} there"):
            bench_remotely(agent.url, [relu], rounds=1, seed=0)
        folder.mkdir()


def test_a_busy_agent_says_so(agent: Any, relu: Path) -> None:
    with unfinished_upload(agent.url), \
            pytest.raises(EdgewrightError, match="busy with another measurement") as caught:
        bench_remotely(agent.url, [relu], rounds=1, seed=0)
    assert type(caught.value) is EdgewrightError


@pytest.mark.parametrize("token", [None, "wrong-token"])
def test_a_wrong_token_is_refused(guarded_agent: Any, relu: Path, token: str | None) -> None:
    with pytest.raises(UsageError, match="set EDGEWRIGHT_DEVICE_TOKEN to the token"):
        bench_remotely(guarded_agent.url, [relu], rounds=1, seed=0, token=token)


@pytest.mark.parametrize("source", ["argument", "environment"])
def test_the_right_token_opens(guarded_agent: Any, relu: Path, monkeypatch: pytest.MonkeyPatch,
                               source: str) -> None:
    if source == "environment":
        monkeypatch.setenv("EDGEWRIGHT_DEVICE_TOKEN", f"{TOKEN}\n")
    token = TOKEN if source == "argument" else None
    assert bench_remotely(guarded_agent.url, [relu], rounds=2, seed=0, token=token)[0].runs == 2


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "töken"])
def test_a_token_no_header_can_carry_is_refused(relu: Path, token: str) -> None:
    with pytest.raises(UsageError, match="printable ASCII without spaces"):
        bench_remotely("http://127.0.0.1:9", [relu], rounds=1, seed=0, token=token)


@pytest.mark.parametrize("url", ["", "ftp://pi:8765", "http://", "http://pi:port", "http://[::"])
def test_what_is_no_address_is_refused(relu: Path, url: str) -> None:
    with pytest.raises(UsageError, match=r"is not the address of an agent; expected http://HOST"):
        bench_remotely(url, [relu], rounds=1, seed=0)


def test_an_agent_that_is_not_there_is_named_with_what_to_do(relu: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(InputError) as caught:
        bench_remotely(f"http://127.0.0.1:{port}", [relu], rounds=1, seed=0)
    assert str(caught.value).startswith(f"cannot reach an agent at http://127.0.0.1:{port} (")
    assert "run edgewright device serve there" in str(caught.value)


@pytest.mark.parametrize("reply", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\noops!"])
def test_something_else_at_the_address_is_told_apart(relu: Path, reply: bytes) -> None:
    with stranger(reply) as url, pytest.raises(InputError) as caught:
        bench_remotely(url, [relu], rounds=1, seed=0)
    status = reply.split()[1].decode()
    assert str(caught.value).startswith(f"the server at {url} is not an agent (status {status})")


@pytest.mark.parametrize("reply", [b"", b"SSH-2.0-OpenSSH_9.6\r\n"])
def test_a_broken_connection_is_named(relu: Path, reply: bytes) -> None:
    with stranger(reply) as url, pytest.raises(InputError, match="broke") as caught:
        bench_remotely(url, [relu], rounds=1, seed=0)
    assert url in str(caught.value)


def test_silence_ends_at_the_timeout(relu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewright.device._client._CONNECT_S", 0.1)
    with stranger(None) as url, pytest.raises(InputError, match=r"did not answer within 0\.1 s"):
        bench_remotely(url, [relu], rounds=1, seed=0)


def test_an_error_of_a_newer_agent_keeps_its_message(relu: Path) -> None:
    body = b'{"error": "ThermalError", "message": "too hot"}'
    reply = b"HTTP/1.1 422 No\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with stranger(reply) as url, pytest.raises(EdgewrightError, match=r"^too hot$") as caught:
        bench_remotely(url, [relu], rounds=1, seed=0)
    assert type(caught.value) is EdgewrightError


def test_paths_that_are_no_text_can_be_sent(agent: Any, relu: Path, tmp_path: Path) -> None:
    path = Path(str(tmp_path / "b") + "\udcff.edge")
    path.write_bytes(relu.read_bytes())
    assert bench_remotely(agent.url, [path], rounds=2, seed=0)[0].runs == 2
