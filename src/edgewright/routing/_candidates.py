"""A gate and its branches as modules, before and after the gate decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, final

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright.errors import ModelError
from edgewright.graph import ops


class Candidates(NamedTuple):
    """What a gate and every branch return for a batch.

    Attributes:
        scores: The gate's logits, (N, branches).
        outputs: The outputs of every branch, nested as the model's.
    """

    scores: Tensor
    outputs: tuple[Any, ...]

    def select(self) -> Any:
        """The outputs of the branch with the highest score, sample by sample."""
        index = self.scores.argmax(dim=1)
        return pytree.tree_map(lambda *leaves: ops.ROUTE(index, list(leaves)), *self.outputs)


@final
class RoutedModel(nn.Module):
    """Returns, per sample, the outputs of the branch with the highest score.

    Args:
        gate: Returns logits (N, branches) for what the branches take.
        branches: The branches.
        trunk: Computes what gate and branches take; None for the model's inputs themselves.
    """

    def __init__(self, gate: nn.Module, branches: Sequence[nn.Module],
                 trunk: nn.Module | None) -> None:
        super().__init__()
        self.trunk, self.gate, self.branches = trunk, gate, nn.ModuleList(branches)

    def candidates(self, *inputs: Tensor) -> Candidates:
        """The gate's logits, and every branch's outputs."""
        taken = inputs if self.trunk is None else self.trunk(*inputs)
        taken = taken if isinstance(taken, tuple | list) else (taken,)
        return Candidates(self.gate(*taken), tuple(branch(*taken) for branch in self.branches))

    def forward(self, *inputs: Tensor) -> Any:
        """Return the selected outputs."""
        return self.candidates(*inputs).select()


@final
class CandidateModel(nn.Module):
    """Returns what the gate and every branch compute, which training needs.

    Args:
        routed: The model.
    """

    def __init__(self, routed: RoutedModel) -> None:
        super().__init__()
        self.routed = routed

    def forward(self, *inputs: Tensor) -> Candidates:
        """Return the candidates."""
        return self.routed.candidates(*inputs)


def check_candidates(candidates: Candidates, samples: int) -> None:
    """Check that a gate can choose between its branches.

    Raises:
        ModelError: The gate does not return one logit per branch, or the branches' outputs differ
            in nesting, shape or dtype.
    """
    scores, outputs = candidates
    expected = samples, len(outputs)
    if not isinstance(scores, Tensor) or tuple(scores.shape) != expected \
            or not scores.is_floating_point():
        found = (f"{scores.dtype} of shape {tuple(scores.shape)}" if isinstance(scores, Tensor)
                 else type(scores).__name__)
        raise ModelError(f"the gate returns {found}, expected logits of shape {expected}: one per "
                         "sample and branch")
    first = _describe(outputs[0])
    for number, other in enumerate(outputs[1:], start=1):
        if _describe(other) != first:
            raise ModelError(f"branch {number} returns {_describe(other)}, branch 0 {first}; all "
                             "branches must return outputs of one nesting, shape and dtype")


def _describe(outputs: Any) -> str:
    described = pytree.tree_map_only(
        Tensor, lambda leaf: f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}",
        outputs)
    return str(described).replace("'", "")
