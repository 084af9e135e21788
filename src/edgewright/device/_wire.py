"""What agent and client say to each other."""

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
    model_config = ConfigDict(frozen=True)   # fields that a newer peer adds are no error


class Health(_Message):
    """Who the agent is, and whether it is free.

    Attributes:
        machine: Processor or board, and core count.
        runtime: Name and version of the engine.
        edgewright: Version of the agent's package.
        busy: A measurement is under way.
        max_upload_bytes: Largest request the agent reads.
    """

    machine: str
    runtime: str
    edgewright: str
    busy: bool
    max_upload_bytes: int


class Answer(_Message):
    """The latencies, in the order of the bundles sent."""

    latencies: tuple[Latency, ...]


class Failure(_Message):
    """An error on its way to the client.

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
        """The error's class and its message, or another message."""
        return cls(error=type(error).__name__, message=str(error) if message is None else message)

    def as_error(self) -> EdgewrightError:
        """The same error again; of the base class where this version does not know its class."""
        kind = getattr(errors, self.error, None)
        if not (isinstance(kind, type) and issubclass(kind, EdgewrightError)):
            kind = EdgewrightError
        # Past the constructor, which may take other things than the message.
        return kind.__new__(kind, self.message)


def find_token(given: str | None) -> str | None:
    """The token given, or the environment's, or None.

    Raises:
        UsageError: It holds what a header cannot carry.

    Example:
        >>> find_token(" s3cret ")
        's3cret'
    """
    token = (given or os.environ.get(TOKEN_VARIABLE, "")).strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError("the token must be of printable ASCII characters without spaces; make one "
                         "with: python -c 'import secrets; print(secrets.token_urlsafe())'")
    return token or None


def busy() -> EdgewrightError:
    """The agent measures one thing at a time."""
    return EdgewrightError("the device is busy with another measurement; two at once would falsify "
                           "both, so try again when it is done")


def too_large(limit_bytes: int) -> InputError:
    """The bundles are more than the agent reads."""
    return InputError(f"the bundles are larger than the {format_size(limit_bytes)} the agent takes "
                      "at once; bench them on the device itself, with edgewright bench")
