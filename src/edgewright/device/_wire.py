"""The messages between agent and client."""

from __future__ import annotations

import os
from typing import Final

from pydantic import BaseModel, ConfigDict

from edgewright import errors
from edgewright.core import format_size
from edgewright.errors import EdgewrightError, InputError, UsageError
from edgewright.measure import Latency

TOKEN_VARIABLE: Final = "EDGEWRIGHT_DEVICE_TOKEN"  # noqa: S105  (a name, not a token)
DEFAULT_PORT: Final = 8765
MAX_UPLOAD_BYTES: Final = 256 << 20
MAX_BUNDLES: Final = 8
MAX_ROUNDS: Final = 10_000


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)   # unknown fields of a newer peer are ignored


class Health(_Message):
    """The agent's identity and whether it is busy.

    Attributes:
        machine: Processor or board, and core count.
        runtime: Name and version of the engine.
        edgewright: Version of the agent's package.
        busy: A measurement is running.
        max_upload_bytes: Largest request the agent accepts.
    """

    machine: str
    runtime: str
    edgewright: str
    busy: bool
    max_upload_bytes: int


class BenchResponse(_Message):
    """The latencies, in the order of the bundles sent."""

    latencies: tuple[Latency, ...]


class Failure(_Message):
    """An error as it is sent to the client.

    Example:
        >>> failure = Failure.of(errors.BundleError("m.edge was altered"))
        >>> failure.model_dump()
        {'error': 'BundleError', 'message': 'm.edge was altered'}
        >>> failure.as_error()
        BundleError('m.edge was altered')
    """

    error: str
    message: str

    @classmethod
    def of(cls, error: EdgewrightError, message: str | None = None) -> Failure:
        """From an error's class and its message, or another message."""
        return cls(error=type(error).__name__, message=str(error) if message is None else message)

    def as_error(self) -> EdgewrightError:
        """The original error; of the base class if this version does not know its class."""
        kind = getattr(errors, self.error, None)
        if not (isinstance(kind, type) and issubclass(kind, EdgewrightError)):
            kind = EdgewrightError
        # Bypass the constructor, which may take other arguments than the message.
        return kind.__new__(kind, self.message)


def find_token(given: str | None) -> str | None:
    """The given token, or the environment's, or None.

    Raises:
        UsageError: It has characters that are not allowed in a header.

    Example:
        >>> find_token(" s3cret ")
        's3cret'
    """
    token = (given or os.environ.get(TOKEN_VARIABLE, "")).strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError("the token must be printable ASCII without spaces; create one with: "
                         "python -c 'import secrets; print(secrets.token_urlsafe())'")
    return token or None


def busy() -> EdgewrightError:
    """The error of an agent that is already measuring."""
    return EdgewrightError("the device is busy with another measurement; two at once would disturb "
                           "each other, so try again when it is done")


def too_large(limit_bytes: int) -> InputError:
    """The error of bundles that are too large for the agent."""
    return InputError(f"the bundles are larger than the {format_size(limit_bytes)} that the agent "
                      "accepts at once; run edgewright bench on the device itself")
