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

    ``GET /health`` returns the agent's state; ``POST /bench`` takes a form with up to 8 bundles
    (files in the field ``bundles``), ``rounds`` and ``seed``, and returns their latencies. It
    measures one request at a time and rejects a second one with status 409. Errors are JSON with
    class and message.

    Args:
        token: Token required of every request, as ``Authorization: Bearer TOKEN``; None allows
            everyone.
        max_upload_bytes: Larger requests are rejected while they are read.

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
        host: Address to listen on. Only a loopback address works without a token.
        port: Port to listen on; 0 picks a free one.
        token: Token that clients must send; by default the environment variable
            ``EDGEWRIGHT_DEVICE_TOKEN``.
        announce: Called with one line with the agent's address once it listens.

    Raises:
        UsageError: There is no token for an address that others can reach, or the agent cannot
            listen on the address.
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
                         "use --host 127.0.0.1")
    app = create_app(token)
    try:
        import uvicorn  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("the device agent", "device") from error
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False))
    with _listen(host, port) as listening:
        shown = f"[{host}]" if ":" in host else host
        with suppress(KeyboardInterrupt):   # the normal way to stop an agent
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
