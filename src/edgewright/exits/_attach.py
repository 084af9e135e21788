"""Hang exits on a program's cuts, and train them with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node

from edgewright.errors import ModelError, UsageError
from edgewright.exits._config import EarlyExits
from edgewright.program import (
    CapturedModule,
    Program,
    count_macs,
    find_cuts,
    outputs_of,
    refresh_shapes,
    set_outputs,
    shape_of,
)
from edgewright.task import Task
from edgewright.training import LabelLoss, Objective, Progress, train

aten = torch.ops.aten
_CONVOLUTIONS: Final = frozenset({
    aten.conv1d.default, aten.conv2d.default, aten.conv3d.default,
    aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding,
})
_LAYERS: Final = _CONVOLUTIONS | {aten.linear.default}
_POOLINGS: Final = {3: aten.adaptive_avg_pool1d.default, 4: aten.adaptive_avg_pool2d.default,
                    5: aten.adaptive_avg_pool3d.default}


def add_exits(program: Program, task: Task, config: EarlyExits | None = None, *,
              objective: Objective | None = None, seed: int = 0, checkpoint: Path | None = None,
              progress: Progress | None = None) -> Program:
    """Add early exits at cuts of the graph, and train them together with the network.

    A head pools its tensor over space (or over tokens, where a linear layer reads it) and is a
    linear layer from there; its parameters are called ``exits.N.weight`` and ``exits.N.bias``. The
    program then returns one logits tensor per exit, the final one last.

    Args:
        program: In floating point, with one output of logits (N, classes).
        task: Its data.
        config: How many exits, and how they are trained.
        objective: What the training minimises; the label loss if left out.
        seed: Of the heads' initial weights and of the training.
        checkpoint: Where the training keeps its state, to be resumed from.
        progress: Shows the training's progress.

    Raises:
        UsageError: The program is quantised or has exits already.
        ModelError: It has not one logits output, or fewer cuts than exits were asked for.

    Example:
        >>> import torch
        >>> x, y = torch.randn(32, 4), torch.arange(32) % 3
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),
        ...                             torch.nn.Linear(8, 8), torch.nn.ReLU(),
        ...                             torch.nn.Linear(8, 3))
        >>> program = add_exits(Program.capture(model, x), Task((x, y), test=(x, y)),
        ...                     EarlyExits(count=1, training=None))
        >>> [tuple(logits.shape) for logits in program.run(x)]
        [(32, 3), (32, 3)]
    """
    config = config or EarlyExits()
    _check(program)
    cuts = place_exits(program, config.count)
    attached = _attach(program, [cut.name for cut in cuts], config.pool, seed)
    if config.training is None:
        return attached
    module = attached.module(train=True)
    network = _HeadsOnly(module) if config.backbone == "freeze" else module
    train(network, task, config.training,
          objective or LabelLoss(config.training.label_smoothing), seed=seed,
          checkpoint=checkpoint, progress=progress)
    return attached.with_state(module.state_dict())


@final
class _HeadsOnly(nn.Module):
    """A network whose exits learn while the rest stays as it is, running statistics included."""

    def __init__(self, body: CapturedModule) -> None:
        super().__init__()
        self.body = body.eval()
        for name, parameter in body.named_parameters():
            parameter.requires_grad_(name.startswith("exits."))

    def forward(self, *inputs: Any) -> Any:
        return self.body(*inputs)

    def train(self, mode: bool = True) -> _HeadsOnly:
        super().train(mode)
        self.body.eval()
        return self


def place_exits(program: Program, count: int) -> tuple[Node, ...]:
    """The cuts nearest to equal shares of the multiply-accumulates, in order.

    Only a tensor that the next layer reads as it is counts, not one between a layer and its norm
    or activation.

    Raises:
        ModelError: There are fewer such cuts than exits.
    """
    spent = _places(program)
    candidates = list(spent)
    total = program.costs().macs
    if len(candidates) < count:
        raise ModelError(f"{count} early exits were asked for, but the graph has "
                         f"{len(candidates)} places where a single tensor lives and a head fits; "
                         "ask for fewer exits")
    chosen: list[Node] = []
    for rank in range(1, count + 1):
        goal = total * rank / (count + 1)
        free = [cut for cut in candidates if cut not in chosen]
        chosen.append(min(free, key=lambda cut: abs(spent[cut] - goal)))
    return tuple(sorted(chosen, key=lambda cut: spent[cut]))


def possible_exits(program: Program) -> int:
    """How many early exits a program has places for; none without one output of logits."""
    return len(_places(program)) if _returns_logits(program) else 0


def _returns_logits(program: Program) -> bool:
    """Whether a program has one output, of shape (N, classes)."""
    outputs = outputs_of(program)
    return len(outputs) == 1 and len(shape_of(outputs[0])) == 2


def _places(program: Program) -> dict[Node, int]:
    """Cuts a head fits on, with the multiply-accumulates spent up to each."""
    candidates = [cut for cut in find_cuts(program) if _can_feed_head(cut)]
    spent = _macs_up_to(program, candidates)
    total = program.costs().macs
    return {cut: spent[cut] for cut in candidates if 0 < spent[cut] < total}


def _check(program: Program) -> None:
    if program.is_quantized:
        raise UsageError("exits cannot be added to a quantised program; add them before "
                         "quantising")
    if program.exits:
        raise UsageError(f"the program has {program.exits} early exits already; give the program "
                         "from before that, and the count of all of them")
    if not _returns_logits(program):
        shapes = ", ".join(str(shape_of(node)) for node in outputs_of(program))
        raise ModelError(f"early exits need one output of logits (N, classes), the program returns "
                         f"{shapes} for one sample")


def _can_feed_head(cut: Node) -> bool:
    is_float = cut.meta["val"].is_floating_point()
    read_by_layer = any(user.target in _LAYERS for user in cut.users)
    return is_float and read_by_layer and 2 <= len(shape_of(cut)) <= 5


def _macs_up_to(program: Program, cuts: Sequence[Node]) -> dict[Node, int]:
    spent, total = {}, 0
    for node in program.calls():
        total += count_macs(node)
        if node in cuts:
            spent[node] = total
    return spent


def _attach(program: Program, cuts: list[str], pool: int, seed: int) -> Program:
    attached = program.copy()
    module = attached.graph_module
    final = outputs_of(attached)[0]
    classes = shape_of(final)[-1]
    nodes = {node.name: node for node in module.graph.nodes}
    module.add_submodule("exits", nn.Module())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        logits = [_head(module, nodes[name], index, classes, pool)
                  for index, name in enumerate(cuts)]
    set_outputs(module, (*logits, final))
    module.recompile()
    refresh_shapes(module)
    return Program(module, attached.example_inputs, exits=len(cuts))


def _head(module: GraphModule, cut: Node, index: int, classes: int, pool: int) -> Node:
    """Pool, flatten, linear; placed right behind the cut."""
    features, width = _pool(module.graph, cut, pool)
    module.add_submodule(f"exits.{index}", nn.Linear(width, classes))
    graph = module.graph
    with graph.inserting_after(features):
        weight = graph.get_attr(f"exits.{index}.weight")
    with graph.inserting_after(weight):
        bias = graph.get_attr(f"exits.{index}.bias")
    with graph.inserting_after(bias):
        return graph.call_function(aten.linear.default, (features, weight, bias))


def _pool(graph: Graph, cut: Node, pool: int) -> tuple[Node, int]:
    """The features a head reads, (N, width), and their width."""
    shape = shape_of(cut)
    if len(shape) == 2:
        return cut, shape[1]
    with graph.inserting_after(cut):
        if not any(user.target in _CONVOLUTIONS for user in cut.users):  # (N, tokens, width)
            places = list(range(1, len(shape) - 1))
            return graph.call_function(aten.mean.dim, (cut, places)), shape[-1]
        sides = [min(pool, side) for side in shape[2:]]
        pooled = graph.call_function(_POOLINGS[len(shape)], (cut, sides))
    with graph.inserting_after(pooled):
        flat = graph.call_function(aten.flatten.using_ints, (pooled, 1))
    return flat, shape[1] * math.prod(sides)
