"""Bias correction: the mean error that quantising makes in each output channel is taken off.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction",
section 4.2 and appendix D: rounding weights moves the mean of what a layer puts out, which a bias
can take back. It goes from front to back, because what a layer reads has moved with the layers
before it. There it takes a pass over the data for each layer; here one pass does. Every batch runs
through the quantised network with each layer's mean error so far already taken off, so that the
next layer reads what it will read in the end, but for what the mean still moves by. With one
batch the result is that of a pass for each layer; with more, less than a tenth of the errors is
left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

from edgewright.errors import DataError
from edgewright.graph import argument, free_bias_name, refresh_shapes, set_argument, stored_tensors
from edgewright.program import Program
from edgewright.quantization.placement import find_units, lacks_bias, stored_bias
from edgewright.quantization.simulation import FakeQuantizer


def add_biases(program: Program) -> Program:
    """The program with a bias of zeros in every layer that has none, to be corrected.

    Args:
        program: In floating point, its batch norms folded.

    Returns:
        ``program`` itself where every layer has one.

    Example:
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> sorted(add_biases(Program.capture(layer, torch.zeros(1, 2))).state_dict())
        ['bias', 'weight']
    """
    bare = [unit.node.name for unit in find_units(program.graph)
            if unit.weight is not None and lacks_bias(unit.node)]
    if not bare:
        return program
    result = program.copy()
    nodes = {node.name: node for node in result.graph.nodes}
    for name in bare:
        _add_bias(result.graph_module, nodes[name])
    result.graph_module.recompile()
    refresh_shapes(result.graph_module)
    return result


def correct_bias(simulated: GraphModule, original: GraphModule,
                 batches: Iterable[tuple[Any, ...]]) -> None:
    """Take each output channel's mean error off the biases of quantised layers, in place.

    The batches are gone through once, and nothing is kept of them but a sum a channel. Calls that
    share a bias get the mean of their errors. A layer without a bias, or in floating point, is
    left as it is; see `add_biases`.

    Args:
        simulated: With `FakeQuantizer` modules that quantise; its biases are written.
        original: The same layers, under the same names, in floating point.
        batches: Inputs of both.

    Raises:
        DataError: There is no batch, or the outputs of a layer are not finite.
    """
    layers = _quantised_layers(simulated)
    exact = _Exact(original, layers)
    corrected = _Corrected(simulated, layers)
    with torch.no_grad():
        for batch in batches:
            leaves = pytree.tree_leaves(batch)
            corrected.wanted = exact.means_of(leaves)
            corrected.run(*leaves, enable_io_processing=False)
        if layers and not corrected.errors:
            raise DataError("there is no batch of inputs to correct biases by; hand in at least "
                            "one")
        tensors = stored_tensors(simulated)
        for bias, error in corrected.errors.items():
            mean = error.mean()
            if not bool(torch.isfinite(mean).all()):
                raise DataError(f"the outputs of the layer of {bias!r} are not finite; the inputs, "
                                "or the weights, hold NaN or infinite values")
            tensors[bias].sub_(mean)


@final
@dataclass(frozen=True)
class _Layer:
    """A quantised layer's bias, and where its results have the channels, from the end."""

    bias: str
    dim: int

    def means(self, value: Tensor) -> Tensor:
        """Of each channel, (channels,) float64."""
        return value.double().movedim(self.dim, 0).flatten(1).mean(1)

    def less(self, value: Tensor, mean: Tensor) -> Tensor:
        """``value`` with each channel's ``mean`` taken off."""
        return value - mean.to(value.dtype).reshape(-1, *[1] * (-self.dim - 1))


@final
class _Mean:
    """A running mean of vectors."""

    def __init__(self) -> None:
        self._total: Tensor | float = 0.0
        self._count = 0

    def add(self, mean: Tensor, count: int) -> None:
        self._total = self._total + mean * count
        self._count += count

    def mean(self) -> Tensor:
        return torch.as_tensor(self._total / self._count)


def _quantised_layers(simulated: GraphModule) -> dict[str, _Layer]:
    """By the name of the call."""
    modules = dict(simulated.named_modules())
    tensors = stored_tensors(simulated)
    found = {}
    for node in simulated.graph.nodes:
        weight = argument(node, "weight")
        bias = stored_bias(node)
        if (isinstance(weight, Node) and weight.op == "call_module" and bias is not None
                and _is_of_weights(modules[str(weight.target)])):
            stored = weight.args[0]
            assert isinstance(stored, Node)  # noqa: S101  (a quantiser reads a stored weight)
            found[node.name] = _Layer(bias, 1 - tensors[str(stored.target)].ndim)
    return found


def _is_of_weights(module: nn.Module) -> bool:
    return isinstance(module, FakeQuantizer) and module.grid.role == "weight"


def _add_bias(module: GraphModule, layer: Node) -> None:
    weight = argument(layer, "weight")
    name = free_bias_name(module, str(weight.target))
    owner, _, leaf = name.rpartition(".")
    tensor = stored_tensors(module)[str(weight.target)]
    setattr(module.get_submodule(owner), leaf, nn.Parameter(tensor.new_zeros(tensor.shape[0])))
    with module.graph.inserting_before(layer):
        bias = module.graph.get_attr(name)
    set_argument(layer, "bias", bias)


@final
class _Exact(Interpreter):
    """Runs the original network and notes the means of its layers."""

    def __init__(self, module: GraphModule, layers: Mapping[str, _Layer]) -> None:
        super().__init__(module)
        self._layers = layers
        self._means: dict[str, Tensor] = {}

    def means_of(self, inputs: list[Any]) -> dict[str, Tensor]:
        """Of each layer, by name, for one batch."""
        self._means = {}
        self.run(*inputs, enable_io_processing=False)
        return self._means

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.name in self._layers:
            self._means[n.name] = self._layers[n.name].means(value)
        return value


@final
class _Corrected(Interpreter):
    """Runs the quantised network with each layer's mean error so far taken off.

    Attributes:
        wanted: The means of the original's layers for the batch that is run.
        errors: Of what to take off each bias, by its name.
    """

    def __init__(self, module: GraphModule, layers: Mapping[str, _Layer]) -> None:
        super().__init__(module)
        self._layers = layers
        self.wanted: dict[str, Tensor] = {}
        self.errors: dict[str, _Mean] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        layer = self._layers.get(n.name)
        if layer is None:
            return value
        error = self.errors.setdefault(layer.bias, _Mean())
        means = layer.means(value)
        error.add(means - self.wanted[n.name], value.numel() // len(means))
        return layer.less(value, error.mean())
