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
    Answer,
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
    """Latency of bundles on the device where an agent runs, taken there as `bench_here` does.

    Over ``http`` token and bundles travel in the clear; across a network that others share, put
    the agent behind TLS or an SSH tunnel.

    Args:
        url: The agent's address, as in ``http://pi.local:8765``.
        paths: The bundles to send.
        rounds: Runs of each bundle that count, at most 10000.
        seed: Of the random inputs, at least 0.
        token: What the agent was started with; else the environment's
            ``EDGEWRIGHT_DEVICE_TOKEN``.
        timeout_s: How long to wait for the measurement, in seconds.

    Returns:
        One latency a bundle, in the order given.

    Raises:
        EdgewrightError: The agent is busy.
        InputError: The agent cannot be reached, does not answer in time or not as an agent does,
            or the bundles are larger than it takes.
        BundleError: A bundle cannot be read here, is damaged, or cannot run there.
        UsageError: The address, the token, ``rounds`` or ``seed`` is off.
        MissingExtraError: The extra ``device`` is not installed.

    Example:
        >>> bench_remotely("ftp://pi", [], rounds=1, seed=0)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        edgewright.errors.UsageError: 'ftp://pi' is not the address of an agent...
    """
    with ExitStack() as stack:
        files = [(_sendable(path), stack.enter_context(_open(path))) for path in paths]
        client = stack.enter_context(_client(url, find_token(token)))
        health = _ask(client, Health, "GET", "/health", timeout_s=_CONNECT_S)
        if health.busy:
            raise busy()
        if sum(os.fstat(file.fileno()).st_size for _, file in files) > health.max_upload_bytes:
            raise too_large(health.max_upload_bytes)
        answer = _ask(client, Answer, "POST", "/bench", timeout_s=timeout_s,
                      data={"rounds": str(rounds), "seed": str(seed)},
                      files=[("bundles", upload) for upload in files])
        if len(answer.latencies) != len(paths):
            raise _no_agent(client, f"{len(answer.latencies)} latencies for {len(paths)} bundles")
        return list(answer.latencies)


def _sendable(path: Path) -> str:
    """The path as the agent shall name it; a name that is no text cannot be sent as it is."""
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
        raise _no_address(url) from error
    if address.scheme not in ("http", "https") or not address.host:
        raise _no_address(url)
    # Not the environment's proxies: a device is reached directly, and the token is for it alone.
    return httpx.Client(base_url=address, headers=headers, trust_env=False)


def _ask(client: httpx.Client, expected: type[_Reply], method: str, path: str, *,
         timeout_s: float, **content: Any) -> _Reply:
    import httpx  # noqa: PLC0415

    where = _address(client)
    try:
        response = client.request(method, path, timeout=httpx.Timeout(timeout_s,
                                                                      connect=_CONNECT_S),
                                  **content)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise InputError(f"no agent can be reached at {where} ({error}); run edgewright device "
                         f"serve there, and give its address as http://HOST:{DEFAULT_PORT}"
                         ) from error
    except httpx.TimeoutException as error:
        raise InputError(f"the agent at {where} gave no answer within {timeout_s:g} s; ask for "
                         "fewer rounds, or look at the device") from error
    except httpx.TransportError as error:
        raise InputError(f"the connection to the agent at {where} broke ({error}); look at the "
                         "device, and try again") from error
    try:
        if response.is_success:
            return expected.model_validate_json(response.content)
        failure = Failure.model_validate_json(response.content)
    except ValidationError as error:
        raise _no_agent(client, f"status {response.status_code}") from error
    raise failure.as_error()


def _no_address(url: str) -> UsageError:
    return UsageError(f"{url!r} is not the address of an agent; expected "
                      f"http://HOST:{DEFAULT_PORT}")


def _no_agent(client: httpx.Client, answer: str) -> InputError:
    return InputError(f"{_address(client)} does not answer as an agent does ({answer}); check the "
                      "address, and the output of edgewright device serve there")


def _address(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")
