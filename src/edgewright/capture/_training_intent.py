"""What a model does only in training, and a graph of its evaluation cannot tell."""

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
from edgewright.capture._module import trainable
from edgewright.errors import EdgewrightWarning
from edgewright.graph import argument, calls, compare_outputs, random_inputs, training_argument

_TOLERANCE: Final = 1e-3  # batch norms over two samples magnify rounding
_SEED: Final = 0
_SHOWN: Final = 6


def tell_lost_training(model: nn.Module, captured: GraphModule, example: tuple[Any, ...],
                       failures: tuple[type[Exception], ...]) -> None:
    """Warn of what the model computes in training, and its captured graph does not.

    Both are trained forward once, with the same random numbers, and the draws of each are counted.
    Batch norm and dropout are switched in the graph and draw alike; stochastic depth, dropout
    inside fused attention, noise and auxiliary outputs are gone. Not seen is what draws random
    numbers outside torch, what happens in training by chance and did not happen here, and all of a
    model whose training needs more than its inputs.

    Args:
        model: As it was captured; left as it is.
        captured: Its graph.
        example: Inputs of two samples.
        failures: What a forward pass may raise; then nothing is said.
    """
    inputs = random_inputs(example, _SEED)
    own, draws = copy_model(model).train(), _Draws()
    try:
        with draws.inside(own):
            wanted = _forward(own, inputs)
        graph_draws = _Draws()
        with graph_draws:
            found = _forward(trainable(captured).train(), inputs)
    except failures:
        return
    lost = ""
    if draws.total > graph_draws.total:
        names = draws.by_module.keys() - _switched_modules(captured)
        lost = (f"{_listed(names or draws.by_module)}: it draws random numbers in training, as "
                "stochastic depth, dropout inside attention or noise does")
    elif len(pytree.tree_leaves(wanted)) != len(pytree.tree_leaves(found)):
        lost = (f"{len(pytree.tree_leaves(wanted))} outputs in training, where it has "
                f"{len(pytree.tree_leaves(found))} in evaluation")
    elif draws.total == graph_draws.total and _differ(found, wanted):
        lost = _differing(own)
    if lost:
        warnings.warn(f"training the program leaves out what {type(model).__name__} does in "
                      f"training alone ({lost}); a program is the graph of evaluation, whose "
                      "batch norms and dropout are switched on for training", EdgewrightWarning,
                      stacklevel=4)


def _differ(found: Any, wanted: Any) -> bool:
    finite = pytree.tree_map_only(Tensor, torch.nan_to_num, (found, wanted))
    return compare_outputs(*finite) > _TOLERANCE


def _forward(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(_SEED)
        return module(*copy.deepcopy(inputs))


@final
class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators that draw random numbers, by the module whose code is running.

    Attributes:
        by_module: How many, by the module's name; all under "" where modules are not followed.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.by_module: Counter[str] = Counter()
        self._running = [""]

    @property
    def total(self) -> int:
        """How many in all."""
        return self.by_module.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (),
                           kwargs: Any = None) -> Any:
        if _draws_random_numbers(func, args, kwargs or {}):
            self.by_module[self._running[-1]] += 1
        return func(*args, **(kwargs or {}))

    @contextmanager
    def inside(self, model: nn.Module) -> Iterator[None]:
        """Count while a model runs, and follow which of its modules does."""
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
    """Whether an operator draws; a fused attention, only where it is given a dropout."""
    names = [argument.name for argument in func._schema.arguments]
    if "dropout_p" in names:
        return bool({**dict(zip(names, args, strict=False)), **kwargs}.get("dropout_p"))
    return torch.Tag.nondeterministic_seeded in func.tags


def _switched_modules(captured: GraphModule) -> set[str]:
    """The modules whose dropout or the like is in the graph, and does something there."""
    return {_module_of(node) for node in calls(captured.graph)
            if training_argument(node) and argument(node, "p", 1.0) != 0}


def _module_of(node: Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).partition("@")[0] if stack else ""


def _differing(own: nn.Module) -> str:
    """Why a model in training computes something else than its graph does."""
    resting = [name for name, module in own.named_modules() if not module.training]
    if resting:
        return f"{_listed(resting)}: the model's own train() leaves it in evaluation mode"
    return f"{_listed(_readers_of_mode(own))}: it computes something else in training"


def _readers_of_mode(model: nn.Module) -> list[str]:
    """The modules whose own code asks whether it is training."""
    return [name for name, module in model.named_modules()
            if not type(module).__module__.startswith("torch.")
            and inspect.isfunction(type(module).forward)
            and "training" in type(module).forward.__code__.co_names]


def _listed(names: Iterable[str]) -> str:
    found = sorted(name or "its own forward" for name in names) or ["its own forward"]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
