"""What one model of the zoo yields, on either side, and the failure of a side that crashed."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Final

_ERROR: Final = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception)\b.*", re.M)
_LONGEST: Final = 300


@dataclass(frozen=True)
class Ours:
    """Edgewright's side; what was not reached is None.

    Attributes:
        parameters: Of the whole program; ``macs`` likewise, for one image.
        capture_seconds: `Program.capture`.
        groups: Groups whose channels can be removed.
        kept: Why channels stay: the commonest reasons, each with its number of weights.
        channels_removed: 0 where nothing could be pruned.
        prune_seconds: Groups, scores, choice, slicing and the proof.
        peak_memory_mb: Of the process, once pruned; it has imported torch and its sources.
        masked_error: Relative difference of the masked and the sliced program.
        onnx_seconds: The pruned program to ONNX.
        onnx_error: Relative difference of ONNX Runtime's outputs and the program's.
        failure: Why the next stage was not reached.
    """

    parameters: int | None = None
    macs: int | None = None
    capture_seconds: float | None = None
    groups: int | None = None
    kept: dict[str, int] = field(default_factory=dict)
    channels_removed: int | None = None
    prune_seconds: float | None = None
    parameters_left: int | None = None
    macs_left: int | None = None
    peak_memory_mb: float | None = None
    masked_error: float | None = None
    onnx_seconds: float | None = None
    onnx_error: float | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Peer:
    """Torch-Pruning's side, counted by its own counter; what was not reached is None.

    Attributes:
        seconds: Building its dependency graph, and pruning.
    """

    parameters: int | None = None
    macs: int | None = None
    seconds: float | None = None
    parameters_left: int | None = None
    macs_left: int | None = None
    peak_memory_mb: float | None = None
    failure: str | None = None


def emit(row: Ours | Peer) -> None:
    """Say how far a side has come, on a line of its own; the last line counts."""
    print(json.dumps(asdict(row)), flush=True)


def last_row(kind: type[Ours | Peer], output: str, failure: str | None) -> Ours | Peer:
    """The last row a child emitted, with the failure that ended it, if one did."""
    rows = [line for line in output.splitlines() if line.startswith('{"parameters"')]
    found: dict[str, Any] = json.loads(rows[-1]) if rows else {}
    return kind(**{**found, "failure": failure or found.get("failure")})


def last_error(stderr: str) -> str:
    """The last exception of a traceback in one line."""
    errors = _ERROR.findall(stderr) or stderr.strip().splitlines()[-1:] or ["died silently"]
    return str(errors[-1])[:_LONGEST]
