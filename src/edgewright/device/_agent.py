"""The agent's HTTP application. Needs the extra ``device``; imported only by `create_app`."""

from __future__ import annotations

import asyncio
import hmac
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, Final

import python_multipart  # noqa: F401  (needed to read forms, so fail early)
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from edgewright.device._bench import bench_here
from edgewright.device._wire import (
    MAX_BUNDLES,
    MAX_ROUNDS,
    TOKEN_VARIABLE,
    BenchResponse,
    Failure,
    Health,
    busy,
    too_large,
)
from edgewright.errors import EdgewrightError, InputError, StorageError, UsageError
from edgewright.measure import Latency, machine

_STALL_S: Final = 30.0
_MAX_SEED: Final = 2**63 - 1


class _Refused(Exception):  # noqa: N818  (it wraps the error)
    """An error with its own HTTP status."""

    def __init__(self, status: int, error: EdgewrightError) -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error


@dataclass(frozen=True)
class _BenchRequest:
    """A client's request: the bundles by the client's names for them, and how to measure."""

    bundles: tuple[tuple[str, BinaryIO], ...]
    rounds: int
    seed: int


def build_agent(token: str | None, max_upload_bytes: int) -> FastAPI:
    """The application; see `edgewright.device.create_app`."""
    app = FastAPI(title="Edgewright device agent", docs_url=None, redoc_url=None, openapi_url=None,
                  dependencies=[Depends(_token_check(token))])
    measuring = asyncio.Lock()

    @app.get("/health")
    async def health() -> Health:
        return Health(machine=machine(), runtime=_runtime(), edgewright=version("edgewright"),
                      busy=measuring.locked(), max_upload_bytes=max_upload_bytes)

    @app.post("/bench")
    async def bench(request: Request) -> BenchResponse:
        if measuring.locked():
            raise _Refused(409, busy())
        async with measuring:   # includes the upload, which would disturb a measurement too
            limited = Request(request.scope, _limit_body(request, max_upload_bytes))
            async with limited.form(max_files=MAX_BUNDLES, max_fields=4) as form:
                latencies = await asyncio.to_thread(_measure, _parse_form(form))
        return BenchResponse(latencies=tuple(latencies))

    _handle_errors(app)
    return app


def _token_check(token: str | None) -> Callable[[Request], Awaitable[None]]:
    """Rejects requests without the token, and web pages, which can reach a loopback port."""
    expected = None if token is None else f"Bearer {token}".encode()

    async def check(request: Request) -> None:
        if "origin" in request.headers:
            raise _Refused(403, UsageError("the agent does not serve web pages; use edgewright "
                                           "bench --device"))
        given = request.headers.get("authorization", "").encode("latin-1")
        if expected is not None and not hmac.compare_digest(given, expected):
            raise _Refused(401, UsageError(
                f"missing or invalid token; set {TOKEN_VARIABLE} to the token that the agent was "
                "started with"))

    return check


def _limit_body(request: Request, max_bytes: int) -> Receive:
    """The request's body, rejected as soon as it is too large or stalls."""
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > max_bytes:
        raise _Refused(413, too_large(max_bytes))
    left_bytes = max_bytes

    async def receive() -> Message:
        nonlocal left_bytes
        try:
            message = await asyncio.wait_for(request.receive(), _STALL_S)
        except TimeoutError as error:
            raise _Refused(408, InputError(f"the upload stalled for {_STALL_S:.0f} s; send it "
                                           "again")) from error
        left_bytes -= len(message.get("body", b""))
        if left_bytes < 0:
            raise _Refused(413, too_large(max_bytes))
        return message

    return receive


def _parse_form(form: FormData) -> _BenchRequest:
    uploads = [part for part in form.getlist("bundles") if isinstance(part, UploadFile)]
    if not uploads:
        raise UsageError("no bundle was sent; send each as a file in the form field 'bundles'")
    bundles = tuple((part.filename or f"bundle {index}", part.file)
                    for index, part in enumerate(uploads))
    return _BenchRequest(bundles, rounds=_parse_number(form, "rounds", 1, MAX_ROUNDS),
                         seed=_parse_number(form, "seed", 0, _MAX_SEED))


def _parse_number(form: FormData, name: str, least: int, most: int) -> int:
    text = form.get(name)
    number = int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 20 else -1
    if not least <= number <= most:
        raise UsageError(f"{name} must be a whole number from {least} to {most}, got {text!r}")
    return number


def _measure(request: _BenchRequest) -> list[Latency]:
    """Measure from temporary files; errors name the bundles as the client does."""
    with tempfile.TemporaryDirectory(prefix="edgewright-") as folder:
        names = {}
        for index, (name, upload) in enumerate(request.bundles):
            path = Path(folder, f"{index}.edge")
            with path.open("wb") as file:
                shutil.copyfileobj(upload, file)
            names[path] = name
        try:
            return bench_here(list(names), rounds=request.rounds, seed=request.seed)
        except EdgewrightError as error:
            message = str(error)
            for path, name in names.items():
                message = message.replace(str(path), name)
            raise Failure.of(error, message).as_error() from error


def _handle_errors(app: FastAPI) -> None:
    def respond(status: int, error: EdgewrightError) -> JSONResponse:
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        return JSONResponse(Failure.of(error).model_dump(), status, headers)

    @app.exception_handler(_Refused)
    async def refused(_: Request, error: _Refused) -> JSONResponse:
        return respond(error.status, error.error)

    @app.exception_handler(EdgewrightError)
    async def failed(_: Request, error: EdgewrightError) -> JSONResponse:
        return respond(422 if isinstance(error, InputError) else 400, error)

    @app.exception_handler(HTTPException)
    async def invalid(_: Request, error: HTTPException) -> JSONResponse:
        return respond(error.status_code, UsageError(f"the agent cannot serve this request: "
                                                     f"{error.detail}"))

    @app.exception_handler(ClientDisconnect)
    async def disconnected(_: Request, __: ClientDisconnect) -> JSONResponse:
        return respond(400, InputError("the upload was cut off; send it again"))   # not received

    @app.exception_handler(OSError)
    async def not_stored(_: Request, error: OSError) -> JSONResponse:
        return respond(507, StorageError(
            f"the device cannot store the bundles: {error.strerror or error}; free disk space in "
            f"{tempfile.gettempdir()} there"))


def _runtime() -> str:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")   # read once, at import
    import onnxruntime  # noqa: PLC0415

    return f"onnxruntime {onnxruntime.__version__}"
