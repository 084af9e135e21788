"""Detecting what a model does only in training, which a captured evaluation graph lacks."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from edgewright.capture._model_copy import copy_model
from edgewright.capture._module import make_trainable
from edgewright.errors import EdgewrightWarning
from edgewright.graph import argument, calls, compare_outputs, draw_random_inputs, training_argument

_TOLERANCE: Final = 1e-3  # batch norms over two samples magnify rounding
_SEED: Final = 0
_MAX_LISTED: Final = 6


def warn_training_differences(model: nn.Module, captured: GraphModule, example: tuple[Any, ...],
                       failures: tuple[type[Exception], ...]) -> None:
    """Warn if the model computes something in training that its captured graph does not.

    Both run one forward pass in training mode with the same random numbers, and the random draws
    of each are counted. Batch norm and dropout are switched to training in the graph as well;
    stochastic depth, dropout inside fused attention, noise and auxiliary outputs are missing in it.
    Not detected are random numbers drawn outside torch, random behavior that did not occur in this
    pass, and models that need more than their inputs for training.

    Args:
        model: The captured model; it is not changed.
        captured: Its graph.
        example: Inputs of two samples.
        failures: Exceptions of a forward pass after which no warning is given.
    """
    inputs = draw_random_inputs(example, _SEED)
    own, draws = copy_model(model).train(), _RandomCallCounter()
    try:
        with draws.inside(own):
            expected = _forward(own, inputs)
        graph_draws = _RandomCallCounter()
        with graph_draws:
            actual = _forward(make_trainable(captured).train(), inputs)
    except failures:
        return
    lost = ""
    if draws.total > graph_draws.total:
        names = draws.by_module.keys() - _switched_modules(captured)
        lost = (f"{_summarize(names or draws.by_module)}: random numbers in training, as in "
                "stochastic depth, dropout inside attention or noise")
    elif len(pytree.tree_leaves(expected)) != len(pytree.tree_leaves(actual)):
        lost = (f"{len(pytree.tree_leaves(expected))} outputs in training, but "
                f"{len(pytree.tree_leaves(actual))} in evaluation")
    elif draws.total == graph_draws.total and _differ(actual, expected):
        lost = _explain_difference(own)
    if lost:
        warnings.warn(f"training the program omits what {type(model).__name__} does only in "
                      f"training ({lost}); a program is the evaluation graph, in which training "
                      "mode only switches batch norms and dropout", EdgewrightWarning,
                      stacklevel=4)


def _differ(actual: Any, expected: Any) -> bool:
    finite = pytree.tree_map_only(Tensor, torch.nan_to_num, (actual, expected))
    return compare_outputs(*finite) > _TOLERANCE


def _forward(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(_SEED)
        return module(*copy.deepcopy(inputs))


@final
class _RandomCallCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the calls that draw random numbers, by the module whose code is running.

    Attributes:
        by_module: Counts by module name; all under "" if modules are not tracked.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.by_module: Counter[str] = Counter()
        self._running = [""]

    @property
    def total(self) -> int:
        """Total count."""
        return self.by_module.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (),
                           kwargs: Any = None) -> Any:
        if _draws_random_numbers(func, args, kwargs or {}):
            self.by_module[self._running[-1]] += 1
        return func(*args, **(kwargs or {}))

    @contextmanager
    def inside(self, model: nn.Module) -> Iterator[None]:
        """Count while a model runs, and track which of its modules is running."""
        handles = []
        for name, module in model.named_modules():
            handles += [module.register_forward_pre_hook(self._enter(name)),
                        module.register_forward_hook(self._leave)]
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(*_: Any) -> None:
            self._running.append(name)
        return enter

    def _leave(self, *_: Any) -> None:
        self._running.pop()


def _draws_random_numbers(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call draws random numbers; a fused attention does only with dropout."""
    names = [argument.name for argument in func._schema.arguments]
    if "dropout_p" in names:
        return bool({**dict(zip(names, args, strict=False)), **kwargs}.get("dropout_p"))
    return torch.Tag.nondeterministic_seeded in func.tags


def _switched_modules(captured: GraphModule) -> set[str]:
    """The modules with an active training-mode operator (for example dropout) in the graph."""
    return {_module_of(node) for node in calls(captured.graph)
            if training_argument(node) and argument(node, "p", 1.0) != 0}


def _module_of(node: Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).partition("@")[0] if stack else ""


def _explain_difference(own: nn.Module) -> str:
    """Explain why a model in training computes something else than its graph does."""
    in_evaluation = [name for name, module in own.named_modules() if not module.training]
    if in_evaluation:
        return f"{_summarize(in_evaluation)}: the model's own train() leaves it in evaluation mode"
    return f"{_summarize(_modules_reading_mode(own))}: a different computation in training"


def _modules_reading_mode(model: nn.Module) -> list[str]:
    """The modules whose own code reads ``self.training``."""
    return [name for name, module in model.named_modules()
            if not type(module).__module__.startswith("torch.")
            and inspect.isfunction(type(module).forward)
            and "training" in type(module).forward.__code__.co_names]


def _summarize(names: Iterable[str]) -> str:
    found = sorted(name or "its own forward" for name in names) or ["its own forward"]
    more = f" and {len(found) - _MAX_LISTED} more" if len(found) > _MAX_LISTED else ""
    return ", ".join(found[:_MAX_LISTED]) + more
