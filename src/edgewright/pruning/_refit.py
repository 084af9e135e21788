"""Fitting the remaining layers after branches were removed, without training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.fx import Interpreter, Node
from torch.utils import _pytree as pytree

from edgewright.graph import (
    alias_root,
    argument,
    count_reads,
    mutates_in_place,
    stored_tensors,
)
from edgewright.program import Program, norm_as_affine
from edgewright.pruning._least_squares import Moments, flatten_observations
from edgewright.pruning._refit_plan import (
    AFFINE,
    Fit,
    LastReads,
    RefitPlan,
    find_unshared,
    plan_refit,
)
from edgewright.task import Batch, Split

_MOST_BYTES: Final = 2**31  # activations of both programs together
_MOST_ROWS: Final = 2**15   # observations per layer
_CHUNK_ROWS: Final = 2**13  # observations that are processed at once
_OVERWRITTEN: Final = "the model reads memory after it has overwritten it"


@final
@dataclass(frozen=True)
class Refit:
    """What `refit_layers` did.

    Attributes:
        program: The program with fitted layers.
        fitted: Names of the fitted layers, in order of computation.
        skipped: Why other layers whose input changed were not fitted, by name.
    """

    program: Program
    fitted: tuple[str, ...]
    skipped: Mapping[str, str]


def refit_layers(program: Program, shortened: Program, samples: Split, *,
                 ridge: float = 0.1, seed: int = 0) -> Refit:
    """Fit the layers that remain after branches were removed to reproduce the original's values.

    Both programs run on the samples. Every layer whose input, or whose task, has changed is fitted
    in order of computation, so that later layers see the errors of earlier ones::

        min over W, b of |Y - X W - b|^2 + ridge |W - W_before|^2

    where X is the layer's input in the shortened, already fitted program, one row per position. Y
    is the layer's output in the original program, except

    - before a removed branch: there the readers expect the sum with the branch, so Y is that sum;
    - if the layer is added to something else: there Y is the original sum minus what the layer is
      added to, so that the errors of the other operand are made up for as well.

    A layer and the batch norm after it are fitted as one; then the weights get their former norm
    back, the norm's statistics are those of the fitted layer, and its scale and bias make up for
    both, so that training goes on from the same function in training mode. The idea of recovering
    block by block on few samples, from activations of the original, is that of PRACTISE (Wang & Wu
    2023, "Practical Network Acceleration with Tiny Sets"); they train by gradient descent on the
    last features instead.

    Grouped, transposed, 3-d, shared and sparse layers, and layers with more than 8,192 inputs
    (channels times kernel size), are not fitted.

    Args:
        program: The original program, in floating point.
        shortened: The result of `remove_branches`; it is not changed.
        samples: Inputs to fit to; fewer are used if their activations exceed 2 GiB.
        ridge: Ridge strength, as a multiple of the mean variance of X.
        seed: Seed for choosing at most 32,768 rows per layer.

    Example:
        >>> from edgewright.channels import find_branches, remove_branches
        >>> from edgewright.task import TensorSplit
        >>> class Residual(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x)
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), Residual(4, 4))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> shortened = remove_branches(program, find_branches(program))
        >>> split = TensorSplit((torch.randn(64, 4),), torch.zeros(64, dtype=torch.long))
        >>> refit = refit_layers(program, shortened, split, ridge=1e-9)
        >>> refit.fitted  # a linear layer can make up for another one after it
        ('0',)
        >>> x = torch.randn(9, 4)
        >>> torch.allclose(refit.program.run(x), program.run(x), atol=1e-4)
        True
    """
    fitted = shortened.copy()
    if reads_overwritten_memory(program):
        return Refit(fitted, (), {"every layer": _OVERWRITTEN})
    plan = plan_refit(program, fitted)
    peak = max(1, 4 * program.costs().peak_activation_bytes)
    inputs = pytree.tree_leaves(draw_samples(samples, _MOST_BYTES // peak).inputs)
    originals = OriginalValues(program, inputs, plan.originals)
    Refitter(fitted, plan, ridge=ridge, seed=seed).run_plan(originals, forget=True)
    return Refit(fitted, tuple(fit.unit.name for fit in plan.fits.values()), plan.skipped)


def find_unfitted_layers(program: Program, shortened: Program) -> Mapping[str, str]:
    """Why `refit_layers` cannot fit layers whose input has changed, by their names.

    Args:
        program: The original program.
        shortened: The result of `remove_branches`.
    """
    if reads_overwritten_memory(program):
        return {"every layer": _OVERWRITTEN}
    return plan_refit(program, shortened).skipped


def draw_samples(samples: Split, most: int) -> Batch:
    """At least 2 and at most ``most`` samples, evenly spaced."""
    count = max(2, min(len(samples), most))
    shown = samples.select(torch.linspace(0, len(samples) - 1, count).long())
    return next(iter(shown.batches(count)))


def reads_overwritten_memory(program: Program) -> bool:
    """Whether a call reads a value that another call has overwritten in place before."""
    return any(user > call for call, nodes in _overwritten(program).items()
               for node in nodes for user in node.users)


def _overwritten(program: Program) -> dict[Node, list[Node]]:
    """The nodes whose values each call overwrites."""
    return {call: [node for node in program.graph.nodes
                   if node < call and alias_root(node) is alias_root(call)]
            for call in program.calls() if mutates_in_place(call)}


@final
class OriginalValues(Interpreter):
    """Values of the original program, computed as far as they are asked for.

    Args:
        program: The original program.
        inputs: Its inputs.
        wanted: Names of the nodes whose values may be read; None for all.
    """

    def __init__(self, program: Program, inputs: Sequence[Tensor],
                 wanted: Collection[str] | None = None) -> None:
        super().__init__(program.graph_module)
        self.args_iter = iter([tensor.clone() for tensor in inputs])
        self._wanted = wanted
        self._pending = iter(program.graph.nodes)
        self._values: dict[str, Any] = {}
        self._overwritten = {node for nodes in _overwritten(program).values() for node in nodes}

    def read(self, name: str) -> Any:
        """The value of a node."""
        while name not in self._values:
            self._advance()
        return self._values[name]

    def forget(self, name: str) -> None:
        """Free a value that is not read any more."""
        self._values.pop(name, None)

    def _advance(self) -> None:
        node = next(self._pending)
        value = self.env[node] = self.run_node(node)
        if self._wanted is None or node.name in self._wanted:
            self._values[node.name] = value.clone() if node in self._overwritten else value
        for used in self.user_to_last_uses.get(node, []):
            del self.env[used]


@final
class Refitter(Interpreter):
    """Runs a plan, and fits layers in place on the way.

    Args:
        program: The shortened program, which is changed.
        plan: What to run and to fit.
        ridge: Ridge strength.
        seed: Seed for choosing rows.
        most_rows: Largest number of observations per layer.
    """

    def __init__(self, program: Program, plan: RefitPlan, *, ridge: float, seed: int,
                 most_rows: int = _MOST_ROWS) -> None:
        super().__init__(program.graph_module)
        self._plan, self._ridge, self._most_rows = plan, ridge, most_rows
        self._random = torch.Generator().manual_seed(seed)
        self._tensors = stored_tensors(program.graph_module)
        self._reads = count_reads(program.graph_module)

    def run_plan(self, originals: OriginalValues, *, forget: bool) -> Any:
        """Run and fit; returns the values of the output node.

        Args:
            originals: Values of the original program.
            forget: Whether to free those that are not needed any more.
        """
        with torch.no_grad():
            for node, last in zip(self._plan.order, self._plan.last_reads, strict=True):
                self._load(node, originals)
                if node in self._plan.fits:
                    self._fit(self._plan.fits[node], originals)
                self.env[node] = self.run_node(node)
                self._free(last, originals if forget else None)
        return self.env[self._plan.order[-1]]

    def _load(self, node: Node, originals: OriginalValues) -> None:
        """Load what a call reads and was not run: stored tensors, and values that do not change."""
        for source in self._plan.reads(node):
            if source not in self.env:
                self.env[source] = (self.run_node(source) if source.op == "get_attr"
                                    else originals.read(source.name))

    def _free(self, last: LastReads, originals: OriginalValues | None) -> None:
        """Free what was read for the last time."""
        for source in last.nodes:
            del self.env[source]
        if originals is not None:
            for name in last.originals:
                originals.forget(name)

    def run_node(self, n: Node) -> Any:
        """Run a call; one that writes in place gets a copy of what it writes into."""
        if mutates_in_place(n) and isinstance(n.args[0], Node):
            self.env[n.args[0]] = self.env[n.args[0]].clone()
        return super().run_node(n)

    def _fit(self, fit: Fit, originals: OriginalValues) -> None:
        layer, norm = fit.unit.layer, fit.unit.norm
        weight, bias = self._read(layer, "weight"), self._find(layer, "bias")
        targets = originals.read(fit.target)
        if fit.other is not None:
            targets = targets - self.env[fit.other]
        moments = self._observe(layer, weight, self.env[layer.all_input_nodes[0]], targets)
        prior = weight.flatten(1).T.double()
        if norm is None:
            fitted, offset = moments.solve(prior, self._ridge, centered=bias is not None)
            if bias is not None:
                bias.copy_(offset)
        else:
            gain = norm_as_affine(norm, self._tensors)[0].double()
            fitted, _ = moments.solve(prior * gain, self._ridge, centered=True)
            fitted = self._set_norm(norm, moments, prior, fitted, bias)
        weight.copy_(fitted.T.reshape(weight.shape))

    def _set_norm(self, norm: Node, moments: Moments, prior: Tensor, fitted: Tensor,
                  bias: Tensor | None) -> Tensor:
        """Set a norm so that the weights that are returned, of the prior norm, act as fitted."""
        before, after = prior.norm(dim=0), fitted.norm(dim=0)
        factor = torch.where((before > 0) & (after > 0), before / after, 1.0)
        weights = fitted * factor
        mean, variance = moments.output_moments(weights)
        scale = torch.sqrt(variance + float(argument(norm, "eps"))) / factor
        values = scale, moments.target_means(), mean + (0 if bias is None else bias), variance
        for name, value in zip(AFFINE, values, strict=True):
            self._read(norm, name).copy_(value)
        return weights

    def _observe(self, layer: Node, weight: Tensor, value: Tensor, targets: Tensor) -> Moments:
        """Sums over the rows that are chosen."""
        moments = Moments(weight[0].numel(), len(weight))
        positions = targets[0].numel() // len(weight)
        rows, step = len(value) * positions, max(1, _CHUNK_ROWS // positions)
        chosen = torch.zeros(rows, dtype=torch.bool)
        chosen[torch.randperm(rows, generator=self._random)[:self._most_rows]] = True
        for x, y, mask in zip(torch.split(value, step), torch.split(targets, step),
                              torch.split(chosen, step * positions), strict=True):
            found = flatten_observations(layer, weight, x, y)
            moments.add(*(rows[mask] for rows in found))
        return moments

    def _find(self, node: Node, name: str) -> Tensor | None:
        return find_unshared(node, name, self._tensors, self._reads)

    def _read(self, node: Node, name: str) -> Tensor:
        found = self._find(node, name)
        assert found is not None  # noqa: S101 - the plan has checked it
        return found
