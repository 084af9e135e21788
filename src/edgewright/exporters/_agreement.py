"""Whether a file computes what its program does: on real samples, as near as its grids allow."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.fx import Interpreter, Node
from torch.utils import _pytree as pytree

from edgewright.errors import BundleError, ModelError, ParityError
from edgewright.graph import argument, ops, output_errors, tolerance_of
from edgewright.program import Program, probe_inputs
from edgewright.runtime import Engine

_LEAST: Final = 0.05    # relative error allowed among integers, even where steps matter less
_MOST: Final = 0.5      # even where they matter more: what is half wrong is wrong
_OFF: Final = 0.25      # share of the integers that a runtime may round to a neighbour
_DRAWS: Final = 3


def check_agreement(program: Program, engine: Engine) -> float:
    """Hold a file's outputs against the program's, on `probe_inputs`.

    Floats have to agree to the roundings of their type. Kernels of integers round a sum to the
    next integer here and there; how much that is in the outputs, the program itself tells: they may
    be as far off as its own are when a quarter of its integers, at random, are one step off.

    Args:
        program: In floating point or quantized.
        engine: Runs the file.

    Returns:
        The largest relative error of any output.

    Raises:
        ModelError: The file does not run.
        ParityError: They differ by more; the worst output is named.
    """
    inputs = probe_inputs(program)
    outputs = program.run(*inputs)
    want = pytree.tree_leaves(outputs)
    have = _outputs(engine, inputs)
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (want, have)]
    if shapes[0] != shapes[1]:
        raise ParityError(f"the exported file computes something else: outputs of shape "
                          f"{shapes[1]}, expected {shapes[0]}; no file was written; "
                          "please report the model")
    errors, limits = output_errors(want, have), _limits(program, inputs, want)
    worst = max(range(len(errors)), key=lambda index: errors[index] / limits[index], default=None)
    if worst is None:
        return 0.0
    if not errors[worst] <= limits[worst]:
        found = _differs(_named(outputs, worst), errors[worst], limits[worst])
        raise ParityError(f"the exported file computes something else: {found}; no file was "
                          f"written; {_cause(program)}")
    return max(errors)


def load_file(engine: Callable[[bytes], Engine], model: bytes) -> Engine:
    """The engine of a file that was just written.

    Raises:
        ModelError: The runtime does not take the file.
    """
    try:
        return engine(model)
    except BundleError as error:
        raise _does_not_run(f"the exported file does not load: {error}") from error


def _does_not_run(what: str) -> ModelError:
    return ModelError(f"{what}; no file was written; the runtime has no kernel for an operator, or "
                      "not for values of this kind: replace it in the model")


def _outputs(engine: Engine, inputs: tuple[Any, ...]) -> list[Tensor]:
    try:
        arrays = engine.run(tuple(leaf.numpy() for leaf in pytree.tree_leaves(inputs)))
    except BundleError as error:
        raise _does_not_run(f"the exported file does not run on {engine.runtime}: {error}"
                            ) from error
    return [torch.from_numpy(array) for array in arrays]


def _limits(program: Program, inputs: tuple[Any, ...], want: list[Tensor]) -> tuple[float, ...]:
    """The relative error that each output may have."""
    least = tolerance_of(program.graph_module)
    if not any(node.target in ops.QUANTIZERS for node in program.calls()):
        return (least,) * len(want)
    flat = pytree.tree_leaves(inputs)
    with torch.no_grad():
        moved = [output_errors(want, pytree.tree_leaves(_OneStepOff(program, seed).run(*flat)))
                 for seed in range(_DRAWS)]
    return tuple(min(max(least, _LEAST, *by_draw), _MOST) for by_draw in zip(*moved, strict=True))


@final
class _OneStepOff(Interpreter):
    """Runs a quantized program with integers off by one step here and there."""

    def __init__(self, program: Program, seed: int) -> None:
        super().__init__(program.graph_module)
        self._generator = torch.Generator().manual_seed(seed)

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.target not in ops.QUANTIZERS:
            return result
        low, high = int(argument(n, "quant_min")), int(argument(n, "quant_max"))
        off = torch.rand(result.shape, generator=self._generator)
        step = (off < _OFF / 2).int() - (off > 1 - _OFF / 2).int()
        return (result.int() + step).clamp(low, high).to(result.dtype)


def _named(outputs: Any, index: int) -> str:
    path, value = pytree.tree_flatten_with_path(outputs)[0][index]
    place = pytree.keystr(path)
    return f"output_{index}{f' ({place})' if place else ''} of shape {tuple(value.shape)}"


def _differs(name: str, error: float, limit: float) -> str:
    if math.isinf(error):
        return f"{name} is NaN or infinite where the program's is not, or everywhere"
    return f"relative error {error:.2e} of {name}, at most {limit:.2g} is allowed"


def _cause(program: Program) -> str:
    """What is likely to be wrong, and what to do."""
    made_up = any(leaf.is_floating_point() and bool((leaf == leaf.flatten()[:1]).all())
                  for leaf in pytree.tree_leaves(program.example_inputs))
    if made_up:
        return ("the values of its inputs were made up, since its example inputs are constant, and "
                "may be none that it was made for: give export a task, or capture with real "
                "samples")
    return ("on its example inputs, an operator is computed otherwise by the runtime: export parts "
            "of the model to find it, and report it")
