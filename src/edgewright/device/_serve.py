"""Running the agent."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from edgewright.device._wire import DEFAULT_PORT, MAX_UPLOAD_BYTES, TOKEN_VARIABLE, find_token
from edgewright.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI


def create_app(token: str | None, *, max_upload_bytes: int = MAX_UPLOAD_BYTES) -> FastAPI:
    """The agent as an ASGI application.

    ``GET /health`` says who it is; ``POST /bench`` takes a form with up to 8 bundles (files in the
    field ``bundles``), ``rounds`` and ``seed``, and answers with their latencies. One measurement
    at a time; a second is refused with 409. An error is JSON: its class and its message.

    Args:
        token: What a request must carry, as ``Authorization: Bearer TOKEN``; None lets everyone in.
        max_upload_bytes: Larger requests are refused while they are read.

    Raises:
        MissingExtraError: The extra ``device`` is not installed.

    Example:
        >>> sorted(route.path for route in create_app(None).routes)
        ['/bench', '/health']
    """
    try:
        from edgewright.device._agent import build_agent  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("the device agent", "device") from error
    return build_agent(token, max_upload_bytes)


def serve(*, host: str = "127.0.0.1", port: int = DEFAULT_PORT, token: str | None = None,
          announce: Callable[[str], None] = print) -> None:
    """Run the agent until it is interrupted.

    Args:
        host: Address to listen on. Only a loopback address may go without a token.
        port: Port to listen on; 0 for one that is free.
        token: What clients must send; else the environment's ``EDGEWRIGHT_DEVICE_TOKEN``.
        announce: Given one line with the agent's address once it listens.

    Raises:
        UsageError: No token for an address others can reach, or the address cannot be had.
        MissingExtraError: The extra ``device`` is not installed.

    Example:
        >>> serve(host="0.0.0.0", token="")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        edgewright.errors.UsageError: others can reach 0.0.0.0, so the agent needs a token...
    """
    token = find_token(token)
    if token is None and not _is_loopback(host):
        raise UsageError(f"others can reach {host or 'every address'}, so the agent needs a token; "
                         f"set {TOKEN_VARIABLE} here and where edgewright bench --device runs, or "
                         "keep to --host 127.0.0.1")
    app = create_app(token)
    try:
        import uvicorn  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("the device agent", "device") from error
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False))
    with _listen(host, port) as listening:
        shown = f"[{host}]" if ":" in host else host
        with suppress(KeyboardInterrupt):   # how an agent is meant to end
            announce(f"listening on http://{shown}:{listening.getsockname()[1]}")
            server.run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot listen on {host}, port {port}: {reason}; give another --host or "
                         "--port") from error
