"""The client of an agent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

from pydantic import BaseModel, ValidationError

from edgewright.device._wire import (
    DEFAULT_PORT,
    BenchResponse,
    Failure,
    Health,
    busy,
    find_token,
    too_large,
)
from edgewright.errors import BundleError, InputError, MissingExtraError, UsageError
from edgewright.measure import Latency

if TYPE_CHECKING:
    import httpx

_Reply = TypeVar("_Reply", bound=BaseModel)

_CONNECT_S: Final = 10.0


def bench_remotely(url: str, paths: Sequence[Path], *, rounds: int, seed: int,
                   token: str | None = None, timeout_s: float = 600.0) -> list[Latency]:
    """Latency of bundles on a device that runs an agent, measured there by `bench_here`.

    Over ``http``, token and bundles are not encrypted; on a shared network, put the agent behind
    TLS or an SSH tunnel.

    Args:
        url: The agent's address, as in ``http://pi.local:8765``.
        paths: The bundles to send.
        rounds: Timed runs of each bundle, at most 10000.
        seed: Seed of the random inputs, at least 0.
        token: The agent's token; by default the environment variable
            ``EDGEWRIGHT_DEVICE_TOKEN``.
        timeout_s: How long to wait for the measurement, in seconds.

    Returns:
        One latency per bundle, in the given order.

    Raises:
        EdgewrightError: The agent is busy.
        InputError: The agent cannot be reached or does not answer in time, the server is not an
            agent, or the bundles are too large for it.
        BundleError: A bundle cannot be read here, is damaged, or cannot run there.
        UsageError: The address, the token, ``rounds`` or ``seed`` is invalid.
        MissingExtraError: The extra ``device`` is not installed.

    Example:
        >>> bench_remotely("ftp://pi", [], rounds=1, seed=0)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        edgewright.errors.UsageError: 'ftp://pi' is not the address of an agent...
    """
    with ExitStack() as stack:
        files = [(_sendable_name(path), stack.enter_context(_open(path))) for path in paths]
        client = stack.enter_context(_client(url, find_token(token)))
        health = _request(client, Health, "GET", "/health", timeout_s=_CONNECT_S)
        if health.busy:
            raise busy()
        if sum(os.fstat(file.fileno()).st_size for _, file in files) > health.max_upload_bytes:
            raise too_large(health.max_upload_bytes)
        response = _request(client, BenchResponse, "POST", "/bench", timeout_s=timeout_s,
                            data={"rounds": str(rounds), "seed": str(seed)},
                            files=[("bundles", upload) for upload in files])
        if len(response.latencies) != len(paths):
            raise _not_an_agent(
                client, f"{len(response.latencies)} latencies for {len(paths)} bundles")
        return list(response.latencies)


def _sendable_name(path: Path) -> str:
    """The path for the agent's messages; bytes that are not valid UTF-8 are replaced."""
    return str(path).encode("utf-8", "replace").decode()


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}; check the path") from error


def _client(url: str, token: str | None) -> httpx.Client:
    try:
        import httpx  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("measuring on another device", "device") from error
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        address = httpx.URL(url if "://" in url else f"http://{url}")
    except httpx.InvalidURL as error:
        raise _invalid_address(url) from error
    if address.scheme not in ("http", "https") or not address.host:
        raise _invalid_address(url)
    # Ignore the environment's proxies: they must not see the token.
    return httpx.Client(base_url=address, headers=headers, trust_env=False)


def _request(client: httpx.Client, expected: type[_Reply], method: str, path: str, *,
             timeout_s: float, **content: Any) -> _Reply:
    import httpx  # noqa: PLC0415

    where = _address(client)
    try:
        response = client.request(method, path, timeout=httpx.Timeout(timeout_s,
                                                                      connect=_CONNECT_S),
                                  **content)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise InputError(f"cannot reach an agent at {where} ({error}); run edgewright device "
                         f"serve there, and give its address as http://HOST:{DEFAULT_PORT}"
                         ) from error
    except httpx.TimeoutException as error:
        raise InputError(f"the agent at {where} did not answer within {timeout_s:g} s; use fewer "
                         "rounds, or check the device") from error
    except httpx.TransportError as error:
        raise InputError(f"the connection to the agent at {where} broke ({error}); check the "
                         "device, and try again") from error
    try:
        if response.is_success:
            return expected.model_validate_json(response.content)
        failure = Failure.model_validate_json(response.content)
    except ValidationError as error:
        raise _not_an_agent(client, f"status {response.status_code}") from error
    raise failure.as_error()


def _invalid_address(url: str) -> UsageError:
    return UsageError(f"{url!r} is not the address of an agent; expected "
                      f"http://HOST:{DEFAULT_PORT}")


def _not_an_agent(client: httpx.Client, answer: str) -> InputError:
    return InputError(f"the server at {_address(client)} is not an agent ({answer}); check the "
                      "address, and the output of edgewright device serve there")


def _address(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")
