"""The agent, asked over HTTP by anyone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import onnxruntime
import pytest

from edgewright.measure import machine

from .conftest import TOKEN, begun_upload, unfinished_upload, wait_until_busy

NUMBERS = {"rounds": "3", "seed": "0"}


def post(url: str, *paths: Path, **fields: str) -> httpx.Response:
    files = [("bundles", (path.name, path.read_bytes())) for path in paths]
    return httpx.post(f"{url}/bench", data={**NUMBERS, **fields}, files=files or None, timeout=60)


def test_health_says_who_it_is(agent: Any) -> None:
    response = httpx.get(f"{agent.url}/health")
    assert response.status_code == 200
    assert response.json() == {
        "machine": machine(), "runtime": f"onnxruntime {onnxruntime.__version__}",
        "edgewright": version("edgewright"), "busy": False, "max_upload_bytes": 256 << 20}


def test_bench_answers_in_order_and_leaves_nothing(agent: Any, relu: Path,
                                                   two_inputs: Path) -> None:
    response = post(agent.url, relu, two_inputs)
    assert response.status_code == 200
    found = response.json()["latencies"]
    assert [latency["runs"] for latency in found] == [3, 3]
    assert list(agent.temporary.iterdir()) == []


def test_a_damaged_bundle_is_named_as_it_was_sent(agent: Any, damaged: Path) -> None:
    response = post(agent.url, damaged)
    assert response.status_code == 422
    assert response.json()["error"] == "BundleError"
    assert response.json()["message"].startswith("damaged.edge")
    assert str(agent.temporary) not in response.text
    assert list(agent.temporary.iterdir()) == []


def test_a_name_that_is_a_path_is_only_a_name(agent: Any, relu: Path, tmp_path: Path) -> None:
    target = tmp_path / "escaped.edge"
    files = [("bundles", (name, relu.read_bytes())) for name in (str(target), "../../up.edge")]
    response = httpx.post(f"{agent.url}/bench", data=NUMBERS, files=files, timeout=60)
    assert response.status_code == 200
    assert not target.exists()


@pytest.mark.parametrize(("fields", "said"), [
    ({"rounds": "0"}, "rounds must be a whole number from 1 to 10000, got '0'"),
    ({"rounds": "10001"}, "rounds must be a whole number from 1 to 10000, got '10001'"),
    ({"rounds": "many"}, "rounds must be a whole number from 1 to 10000, got 'many'"),
    ({"rounds": "9" * 5000}, "rounds must be a whole number"),
    ({"seed": "-1"}, "seed must be a whole number from 0 to"),
    ({"seed": "\N{SUPERSCRIPT TWO}"}, "seed must be a whole number from 0 to")])
def test_bad_numbers_are_refused(agent: Any, relu: Path, fields: dict[str, Any], said: str) -> None:
    response = post(agent.url, relu, **fields)
    assert response.status_code == 400
    assert response.json()["error"] == "UsageError"
    assert response.json()["message"].startswith(said)


def test_missing_numbers_are_refused(agent: Any, relu: Path) -> None:
    response = httpx.post(f"{agent.url}/bench", files={"bundles": relu.read_bytes()})
    assert response.status_code == 400
    assert response.json()["message"] == "rounds must be a whole number from 1 to 10000, got None"


def test_a_form_without_bundles_is_refused(agent: Any) -> None:
    response = post(agent.url)
    assert (response.status_code, response.json()["error"]) == (400, "UsageError")
    assert response.json()["message"].startswith("no bundle was sent")


def test_more_than_8_bundles_are_refused(agent: Any, relu: Path) -> None:
    response = post(agent.url, *[relu] * 9)
    assert response.status_code == 400
    assert "Maximum number of files is 8" in response.json()["message"]


@pytest.mark.parametrize(("content_type", "body"), [
    ("multipart/form-data", b"x"), ("multipart/form-data; boundary=b", b"not a form"),
    ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n"),
    ("application/json", b"{}"), ("application/x-www-form-urlencoded", b"bundles=x")])
def test_what_is_no_form_is_an_error_of_the_caller(agent: Any, content_type: str,
                                                   body: bytes) -> None:
    response = httpx.post(f"{agent.url}/bench", content=body,
                          headers={"Content-Type": content_type})
    assert response.status_code == 400
    assert response.json()["error"] == "UsageError"


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/run"])
def test_there_is_nothing_else(agent: Any, path: str) -> None:
    response = httpx.get(agent.url + path)
    assert response.status_code == 404
    assert response.json()["error"] == "UsageError"


def test_too_large_is_refused_by_what_the_header_says(agent: Any) -> None:
    with begun_upload(agent.url, (256 << 20) + 1) as connection, connection.makefile("rb") as reply:
        status, *_, body = reply.read().splitlines()   # all there is, as the agent hangs up
    assert status.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body) == {"error": "InputError", "message": (
        "the bundles are larger than the 268 MB that the agent accepts at once; run edgewright bench "
        "on the device itself")}


def test_too_large_is_refused_while_it_is_read(small_agent: str) -> None:
    def chunks() -> Iterator[Any]:
        yield b'--b\r\nContent-Disposition: form-data; name="bundles"; filename="m.edge"\r\n\r\n'
        yield bytes(20_000)

    response = httpx.post(f"{small_agent}/bench", content=chunks(),
                          headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert response.status_code == 413
    assert "larger than the 10 kB" in response.json()["message"]
    wait_until_busy(small_agent, False)


def test_an_upload_that_stalls_is_ended(small_agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewright.device._agent._STALL_S", 0.01)
    with begun_upload(small_agent, 1000) as connection, connection.makefile("rb") as reply:
        status, *_, body = reply.read().splitlines()
    assert status.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["message"].startswith("the upload stalled")
    wait_until_busy(small_agent, False)


def test_a_second_measurement_is_refused_until_the_first_is_done(agent: Any, relu: Path) -> None:
    with unfinished_upload(agent.url):
        response = post(agent.url, relu)
        assert response.status_code == 409
        assert response.json()["error"] == "EdgewrightError"
        assert response.json()["message"].startswith("the device is busy with another measurement")
    assert post(agent.url, relu).status_code == 200


@pytest.mark.parametrize("sent", [None, "Bearer wrong-token", f"Basic {TOKEN}", TOKEN, "Bearer",
                                  f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xe9"])
def test_without_the_token_nothing_is_served(guarded_agent: Any, relu: Path, sent: Any) -> None:
    headers = {} if sent is None else {"Authorization": sent.encode("latin-1")}
    asked = [httpx.get(f"{guarded_agent.url}/health", headers=headers),
             httpx.post(f"{guarded_agent.url}/bench", headers=headers, data=NUMBERS,
                        files={"bundles": relu.read_bytes()})]
    for response in asked:
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.json()["error"] == "UsageError"
        assert TOKEN not in response.text


def test_with_the_token_it_serves(guarded_agent: Any) -> None:
    response = httpx.get(f"{guarded_agent.url}/health",
                         headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 200


def test_a_web_page_cannot_use_an_open_loopback_port(agent: Any, relu: Path) -> None:
    response = httpx.post(f"{agent.url}/bench", headers={"Origin": "https://example.org"},
                          data=NUMBERS, files={"bundles": relu.read_bytes()})
    assert response.status_code == 403
    assert "does not serve web pages" in response.json()["message"]
