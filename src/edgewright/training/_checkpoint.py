"""Checkpoints of a run, written atomically."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from edgewright.core import write_atomically
from edgewright.errors import StorageError
from edgewright.training._losses import PartialEpoch
from edgewright.training._record import EpochRecord
from edgewright.training._run import Run
from edgewright.training._score import Score
from edgewright.training._time_limit import TimeUse

_FORMAT: Final = 5


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next step depends on; its random numbers come from seed and step.

    Attributes:
        fingerprint: Identifies the run; see `fingerprint_run`.
        module: Weights after the last step.
        best: Weights of the best epoch.
        average: State of the moving average, if there is one.
        optimizer: State of the optimizer.
        precision: State of the gradient scaler, if there is one.
        hooks: State of each of the objective's hooks.
        history: The completed epochs.
        partial: Progress within the current epoch.
        start: Score of the initial weights, if they may be the result.
        time: The time used, if it is limited.
    """

    fingerprint: str
    module: dict[str, Tensor]
    best: dict[str, Tensor]
    average: dict[str, Any]
    optimizer: dict[str, Any]
    precision: dict[str, Any]
    hooks: list[dict[str, Tensor]]
    history: tuple[EpochRecord, ...]
    partial: PartialEpoch
    start: Score | None
    time: TimeUse | None

    def save(self, path: Path) -> None:
        """Write the checkpoint to ``path`` atomically.

        torch serializes to memory only: its file writer aborts the process if the disk is full.

        Raises:
            StorageError: The file cannot be written.
        """
        content = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        content |= {"format": _FORMAT, "history": [asdict(record) for record in self.history],
                    "partial": asdict(self.partial),
                    "start": None if self.start is None else asdict(self.start),
                    "time": None if self.time is None else asdict(self.time)}
        stream = io.BytesIO()
        torch.save(content, stream)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write the checkpoint {path}: {error.strerror or error}; "
                               "choose a file in a writable folder") from error
        write_atomically(path, stream.getbuffer())


def load_checkpoint(path: Path, fingerprint: str) -> tuple[Checkpoint | None, str]:
    """Load the checkpoint at ``path`` if it belongs to this run, else return None and a reason.

    The reason is empty if there is no file. Loading executes no code from the file.
    """
    if not path.is_file():
        return None, ""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != _FORMAT:
            return None, (f"the checkpoint {path} has another format version; training from the "
                          "start")
        if content["fingerprint"] != fingerprint:
            return None, (f"the checkpoint {path} belongs to a run with other settings, seed, data "
                          "or weights; training from the start")
        del content["format"]
        content["history"] = tuple(
            EpochRecord(**record | {"score": Score(**record["score"])})
            for record in content["history"])
        content["partial"] = PartialEpoch(**content["partial"])
        content["start"] = None if content["start"] is None else Score(**content["start"])
        content["time"] = None if content["time"] is None else TimeUse(**content["time"])
        found = Checkpoint(**content)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, KeyError, TypeError,
            ValueError, AttributeError) as error:
        return None, f"the checkpoint {path} cannot be read ({error}); training from the start"
    return found, ""


def fingerprint_run(run: Run) -> str:
    """A digest of everything that determines a run: settings, objective, seed, data, weights.

    It covers every training and validation sample; see `Split.digest` for the cost.
    """
    samples = (run.task.train.variation, run.task.train.digest(), run.task.val.digest())
    digest = hashlib.sha256(json.dumps(
        [run.config.model_dump(), run.objective.name, run.seed, run.exits, samples],
        sort_keys=True).encode())
    for name, tensor in run.module.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's state, on the CPU."""
    return {name: tensor.detach().to("cpu", copy=True)
            for name, tensor in module.state_dict().items()}
