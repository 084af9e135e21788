"""Predicted damage of every decision, measured once and kept."""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.allocation import Damages, JointSpace
from edgewright.channels import LegalWidths, compute_group_widths, remove_channels
from edgewright.core import write_atomically
from edgewright.program import fold_batch_norm
from edgewright.pruning import ChannelPruning, measure_block_damages, score_channels
from edgewright.quantization import (
    MixedPrecision,
    Precision,
    Quantization,
    measure_sensitivities,
    resolve,
)
from edgewright.task import Split, Task
from edgewright.training import measure_loss


def measure_damages(space: JointSpace, task: Task, scheme: Quantization, *, samples: int,
                    seed: int, path: Path) -> Damages:
    """Predict how much the loss rises by each decision; nothing is trained.

    - Without a block, or two adjacent ones: the measured rise after the layers around them were
      fitted, see `measure_block_damages`.
    - With a narrower group: the measured rise at about half its width, and in proportion to the
      summed Gauss-Newton scores of the channels removed at its other widths.
    - With fewer bits: the measured rise, at least that with more. A second derivative, as in
      HAWQ-V2 (Dong et al. 2020), would describe small changes only: around weights that fit their
      training samples it is nearly zero, and 2 bits seemed to cost nothing.

    All are measured on samples of the training split. The result is stored, and read from there if
    it exists.

    Args:
        space: What can be decided.
        task: The data.
        scheme: The quantization of the weights.
        samples: Number of samples.
        seed: Seed of their choice.
        path: File of the result.

    Raises:
        StorageError: The file cannot be written.
    """
    if path.is_file():
        return _read(json.loads(path.read_text()))
    shown = task.train.sample(samples, seed=seed)
    blocks = measure_block_damages(space.program, space.blocks, shown, task.goal, seed=seed)
    found = Damages(blocks.alone, _width_damages(space, task, shown, seed),
                    _bit_damages(space, task, scheme, samples, seed), blocks.pairs)
    write_atomically(path, json.dumps({
        "blocks": found.blocks, "bits": found.bits,
        "widths": [values.tolist() for values in found.widths],
        "pairs": [[*names, rise] for names, rise in found.pairs.items()]}, indent=1).encode())
    return found


def _read(stored: dict[str, Any]) -> Damages:
    return Damages(stored["blocks"], [np.array(values) for values in stored["widths"]],
                   stored["bits"], {(first, second): rise
                                    for first, second, rise in stored["pairs"]})


def _width_damages(space: JointSpace, task: Task, shown: Split,
                   seed: int) -> list[NDArray[np.float64]]:
    """The rise of the loss with each width of each group."""
    if not space.groups.groups:
        return []
    config = ChannelPruning(samples=len(shown))
    scores = score_channels(space.program, task, space.groups, config, seed)
    ranked = compute_group_widths(space.groups, LegalWidths(), scores, normalize=False)
    before = measure_loss(space.program.module(), shown, task.goal)
    found = []
    for group, widths in zip(ranked, space.widths, strict=True):
        kept = group.cumulative_scores()[widths]
        lost = group.cumulative_scores()[-1] - kept
        half = int(np.abs(widths - group.count / 2).argmin())
        if lost[half] > 0:
            narrow = remove_channels(space.program, space.groups,
                                     group.ranked[: group.count - int(widths[half])])
            rise = measure_loss(narrow.module(), shown, task.goal) - before
            lost = lost * (max(0.0, rise) / lost[half])
        found.append(lost)
    return found


def _bit_damages(space: JointSpace, task: Task, scheme: Quantization, samples: int,
                 seed: int) -> dict[str, list[float]]:
    """The predicted rises relative to the most bits of each weight."""
    tried = {weight: [Precision(weights=count, activations=None) for count in options[1:]]
             for weight, options in space.bits.items() if len(options) > 1}
    fixed = {weight: [0.0] for weight in space.bits if weight not in tried}
    if not tried:
        return fixed
    rises = measure_sensitivities(
        fold_batch_norm(space.program), task, resolve(scheme), tried,
        MixedPrecision(size=1.0, method="loss", samples=samples // 2), seed)
    return fixed | {weight: list(accumulate((rises[weight][precision] for precision in fewer), max,
                                            initial=0.0)) for weight, fewer in tried.items()}
