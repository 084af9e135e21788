"""Check that an exported file computes the same outputs as its program."""

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
from edgewright.program import Program, decides_per_call, is_constant_input, probe_inputs
from edgewright.runtime import Engine

_MIN_TOLERANCE: Final = 0.05  # minimum relative error allowed for quantized programs
_MAX_TOLERANCE: Final = 0.5  # maximum relative error allowed for quantized programs
_SHIFTED_SHARE: Final = 0.25   # fraction of the integers that a runtime may round to a neighbor
_DRAWS: Final = 3


def check_agreement(program: Program, engine: Engine) -> float:
    """Compare a file's outputs with the program's on `probe_inputs`.

    Floating-point outputs must agree within the rounding errors of their type. Integer kernels may
    round a sum to a neighboring integer. The effect of that on the outputs is estimated with the
    program itself: the error may be as large as when a random quarter of its integers is off by one
    step. A program that decides once per call is compared sample by sample, because some runtimes
    take no more.

    Args:
        program: A program in floating point or quantized.
        engine: Runs the file.

    Returns:
        The largest relative error of any output.

    Raises:
        ModelError: The file does not run.
        ParityError: The outputs differ by more than allowed; the worst output is named.
    """
    inputs = probe_inputs(program)
    if decides_per_call(program):
        count = len(pytree.tree_leaves(inputs)[0])
        return max(_compare(program, engine, pytree.tree_map(
            lambda leaf, row=row: leaf[row:row + 1], inputs)) for row in range(count))
    return _compare(program, engine, inputs)


def _compare(program: Program, engine: Engine, inputs: tuple[Any, ...]) -> float:
    """The largest relative error of any output for some inputs, if it is allowed."""
    outputs = program.run(*inputs)
    expected = pytree.tree_leaves(outputs)
    actual = _outputs(engine, inputs)
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (expected, actual)]
    if shapes[0] != shapes[1]:
        raise ParityError(f"the exported file has outputs of shape {shapes[1]}, expected "
                          f"{shapes[0]}; no file was written; please report the model")
    errors, limits = output_errors(expected, actual), _limits(program, inputs, expected)
    worst = max(range(len(errors)), key=lambda index: errors[index] / limits[index], default=None)
    if worst is None:
        return 0.0
    if not errors[worst] <= limits[worst]:
        found = _describe_difference(_output_name(outputs, worst), errors[worst], limits[worst])
        raise ParityError(f"the exported file does not match the program: {found}; no file was "
                          f"written; {_suggest_cause(program)}")
    return max(errors)


def load_file(engine: Callable[[bytes], Engine], model: bytes) -> Engine:
    """Load an exported file into its engine.

    Raises:
        ModelError: The runtime cannot load the file.
    """
    try:
        return engine(model)
    except BundleError as error:
        raise _not_running_error(f"the exported file does not load: {error}") from error


def _not_running_error(what: str) -> ModelError:
    return ModelError(f"{what}; no file was written; the runtime has no kernel for an operator or "
                      "for its types: replace the operator in the model")


def _outputs(engine: Engine, inputs: tuple[Any, ...]) -> list[Tensor]:
    try:
        arrays = engine.run(tuple(leaf.numpy() for leaf in pytree.tree_leaves(inputs)))
    except BundleError as error:
        raise _not_running_error(f"the exported file does not run on {engine.runtime}: {error}"
                            ) from error
    return [torch.from_numpy(array) for array in arrays]


def _limits(program: Program, inputs: tuple[Any, ...],
            expected: list[Tensor]) -> tuple[float, ...]:
    """The allowed relative error of each output."""
    least = tolerance_of(program.graph_module)
    if not any(node.target in ops.QUANTIZERS for node in program.calls()):
        return (least,) * len(expected)
    flat = pytree.tree_leaves(inputs)
    with torch.no_grad():
        perturbed = [_PerturbedInterpreter(program, seed).run(*flat) for seed in range(_DRAWS)]
    errors = [output_errors(expected, pytree.tree_leaves(outputs)) for outputs in perturbed]
    return tuple(min(max(least, _MIN_TOLERANCE, *by_draw), _MAX_TOLERANCE)
                 for by_draw in zip(*errors, strict=True))


@final
class _PerturbedInterpreter(Interpreter):
    """Runs a quantized program with random integers changed by one step."""

    def __init__(self, program: Program, seed: int) -> None:
        super().__init__(program.graph_module)
        self._generator = torch.Generator().manual_seed(seed)

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.target not in ops.QUANTIZERS:
            return result
        low, high = int(argument(n, "quant_min")), int(argument(n, "quant_max"))
        off = torch.rand(result.shape, generator=self._generator)
        step = (off < _SHIFTED_SHARE / 2).int() - (off > 1 - _SHIFTED_SHARE / 2).int()
        return (result.int() + step).clamp(low, high).to(result.dtype)


def _output_name(outputs: Any, index: int) -> str:
    path, value = pytree.tree_flatten_with_path(outputs)[0][index]
    place = pytree.keystr(path)
    return f"output_{index}{f' ({place})' if place else ''} of shape {tuple(value.shape)}"


def _describe_difference(name: str, error: float, limit: float) -> str:
    if math.isinf(error):
        return f"{name} is NaN or infinite where the program's output is not, or everywhere"
    return f"relative error {error:.2e} of {name}, at most {limit:.2g} is allowed"


def _suggest_cause(program: Program) -> str:
    """The likely cause of a difference, and what to do."""
    synthetic = any(leaf.is_floating_point() and is_constant_input(leaf)
                    for leaf in pytree.tree_leaves(program.example_inputs))
    if synthetic:
        return ("the inputs were synthesized because the example inputs are constant, and may be "
                "unrealistic: pass a task to export, or capture the program with real samples")
    return ("on the example inputs, the runtime computes an operator differently: export parts of "
            "the model to find it, and report it")
