"""The state of a run, written so that it is whole or not there."""

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

_FORMAT: Final = 4


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next step depends on; its random numbers come from seed and step.

    Attributes:
        fingerprint: Of the run it belongs to; see `fingerprint_run`.
        module: Weights after the last step.
        best: Weights of the best epoch.
        average: State of the moving average, where there is one.
        optimizer: State of the optimiser.
        precision: State of the loss scaler, where there is one.
        hooks: State of each of the objective's hooks.
        history: Every epoch so far.
        partial: What is done of the next one.
        start: Score of the weights that the run was given, where they may be its result.
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

    def save(self, path: Path) -> None:
        """Write to ``path``, atomically.

        torch writes to memory alone: on a disk that is full, its writer ends the whole process.

        Raises:
            StorageError: The disk cannot take it.
        """
        content = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        content |= {"format": _FORMAT, "history": [asdict(record) for record in self.history],
                    "partial": asdict(self.partial),
                    "start": None if self.start is None else asdict(self.start)}
        stream = io.BytesIO()
        torch.save(content, stream)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write the checkpoint {path}: {error.strerror or error}; "
                               "name a file in a folder that can be written") from error
        write_atomically(path, stream.getbuffer())


def load_checkpoint(path: Path, fingerprint: str) -> tuple[Checkpoint | None, str]:
    """The checkpoint at ``path`` where it belongs to this run, else None and the reason.

    The reason is empty where there simply is none. Nothing is executed in reading it.
    """
    if not path.is_file():
        return None, ""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != _FORMAT:
            return None, f"the checkpoint {path} is of another version; training from the start"
        if content["fingerprint"] != fingerprint:
            return None, (f"the checkpoint {path} is of a run with other settings, seed, data or "
                          "weights; training from the start")
        del content["format"]
        content["history"] = tuple(
            EpochRecord(**record | {"score": Score(**record["score"])})
            for record in content["history"])
        content["partial"] = PartialEpoch(**content["partial"])
        content["start"] = None if content["start"] is None else Score(**content["start"])
        found = Checkpoint(**content)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, KeyError, TypeError,
            ValueError, AttributeError) as error:
        return None, f"the checkpoint {path} cannot be read ({error}); training from the start"
    return found, ""


def fingerprint_run(run: Run) -> str:
    """A digest of all that shapes a run: settings, objective, seed, data, first weights.

    Every training and validation sample counts; see `Split.digest` for what that costs.
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
