"""`Program`: a captured model as a graph that compression passes rewrite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from edgewright.capture import (
    CapturedModule,
    DynamicSizes,
    InputSpec,
    capture_graph,
    copy_graph,
    export_graph,
    extract_graph,
    folded_tensors,
    get_model_state,
    load_state,
    make_trainable,
    read_example_call,
    read_input_specs,
    read_model_state,
    read_states,
    record_folded,
    record_states,
    recorded_states,
    set_model_state,
    unwrap_model,
)
from edgewright.errors import ModelError
from edgewright.graph import (
    calls,
    check_facts,
    count_facts,
    is_quantization,
    mark_sparse,
    sparse_tensors,
)
from edgewright.program._archive import load_archive, save_archive
from edgewright.program._costs import Costs, count_costs
from edgewright.program._examples import select_examples
from edgewright.program._graph_outputs import name_outputs, output_nodes


@final
class Program:
    """A captured model: a graph of plain operators with the model's own parameter names.

    A program is a value: passes return a new program and do not change their input. It is in
    evaluation mode; `module` returns a trainable copy.

    Attributes:
        graph_module: The graph and its tensors. Do not change it; rewrite a `copy`.
        example_inputs: Inputs of two samples: those it was captured with, or two samples of the
            task's data after a pass that had a task. Exports are checked on them.
        exits: Number of early exits. With ``exits > 0`` the outputs are one tensor per exit: the
            early exits first, then the final output.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),
        ...                             torch.nn.Linear(8, 3))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> sorted(program.state_dict())
        ['0.bias', '0.weight', '2.bias', '2.weight']
        >>> program.costs().macs
        56
        >>> program.module()(torch.zeros(5, 4)).shape
        torch.Size([5, 3])
    """

    def __init__(self, graph_module: GraphModule, example_inputs: tuple[Any, ...],
                 exits: int = 0) -> None:
        self.graph_module = graph_module
        self.example_inputs = example_inputs
        self.exits = exits

    @classmethod
    def capture(cls, model: nn.Module,
                example_inputs: Tensor | tuple[Any, ...] = (),
                kwargs: Mapping[str, Any] | None = None,
                dynamic: DynamicSizes | None = None, *,
                states: Mapping[str, str] | None = None,
                batch_dims: Mapping[str, int] | None = None) -> Program:
        """Capture ``model`` with `torch.export`, for any batch size.

        The graph is the one that runs in deployment (evaluation mode); `module` can switch batch
        norm and dropout back to training. The model itself is not changed.

        The program takes all inputs by position: first those of ``example_inputs``, then those of
        ``kwargs`` in the order in which they are given here, each under its name. A task's samples
        list their inputs in that order, or name them (``Task(inputs=...)``). Outputs of a class of
        their own (a ModelOutput, a dataclass, a named tuple) become a dict of their fields, without
        those that are None.

        Args:
            model: Any module. Its inputs are tensors, or nested tuples, lists and dicts of tensors,
                with the batch as the first dimension.
            example_inputs: One input, or a tuple of positional inputs. Values do not matter, but
                real samples make later checks more meaningful.
            kwargs: Inputs that the forward pass takes by name. A value that is not a tensor, such
                as ``use_cache=False``, is fixed in the program.
            dynamic: Dimensions whose size may vary, besides the batch: for an input's name, the
                smallest and the largest size per dimension, ``{"x": {2: (16, 400)}}``, and the step
                between sizes if it is not 1: ``(16, 400, 8)`` for multiples of 8. Sizes that the
                forward pass needs to be equal become one. The program refuses other sizes.
            states: State of a streaming model: the input that takes each state output at the next
                call, by names, ``{"state_out": "state_in"}``. Samples of a task contain the state
                as an input; `edgewright.Session.stream` keeps it between calls, from zeros on.
            batch_dims: Inputs that have the batch elsewhere than in the first dimension, such as
                an LSTM's state: ``{"state": 1}``. The program takes them, and returns their state
                outputs, with the batch first: (N, layers, width).

        Raises:
            ModelError: The model cannot be captured, or not for all sizes; the message names the
                line that fails.
            UsageError: ``dynamic``, ``states`` or ``batch_dims`` do not fit the inputs or outputs.

        Example:
            >>> class Masked(nn.Linear):
            ...     def forward(self, x, scale=1, *, mask=None):
            ...         return {"out": super().forward(x * mask) * scale}
            >>> x = torch.ones(2, 4)
            >>> program = Program.capture(Masked(4, 3), x, {"mask": x, "scale": 2})
            >>> program.input_names
            ('x', 'mask')
            >>> program.run(x, mask=x)["out"].shape
            torch.Size([2, 3])
            >>> sound = Program.capture(nn.Conv1d(4, 8, 3), torch.zeros(1, 4, 20),
            ...                         dynamic={"input": {2: (16, 400)}})
            >>> sound.inputs[0].shape_text, sound.run(torch.zeros(1, 4, 99)).shape
            ('(N, 4, 16..400)', torch.Size([1, 8, 97]))
        """
        call = read_example_call(unwrap_model(model), example_inputs, kwargs, batch_dims, states)
        program = cls(capture_graph(model, call, dynamic), call.inputs)
        return program._with_states(states) if states else program

    @classmethod
    def load(cls, path: str | Path) -> Program:
        """Load a saved program. Nothing is unpickled, and the model's class is not needed.

        Raises:
            ModelError: The file is missing, damaged, or contains something that could run code.
        """
        exported, metadata = load_archive(Path(path))
        inputs = exported.example_inputs
        if inputs is None:
            raise ModelError(f"{path} has no example inputs")
        exits = metadata.get("exits", 0)
        if not isinstance(exits, int):
            raise ModelError(f"{path} has {exits!r} as its number of exits; expected an integer")
        program = cls(extract_graph(exported), inputs[0], exits=exits)
        check_facts(program.graph, path, metadata.get("facts"))
        sparse, names = metadata.get("sparse", []), program.state_dict().keys()
        if not isinstance(sparse, list) or not set(map(str, sparse)) <= names:
            raise ModelError(f"{path} marks {sparse!r} as sparse; expected names of its tensors")
        mark_sparse(program.graph_module, sparse)
        folded = metadata.get("folded", {})
        if not isinstance(folded, dict) or not folded.keys() <= names:
            raise ModelError(f"{path} lists {folded!r} as folded; expected names of its tensors")
        record_folded(program.graph_module,
                      {name: tuple(map(str, sources)) for name, sources in folded.items()})
        states = metadata.get("states", {})
        if not isinstance(states, dict):
            raise ModelError(f"{path} lists {states!r} as its states; expected names")
        program._with_states(states)
        if "model_state" in metadata:
            set_model_state(program.graph_module, read_model_state(path, metadata["model_state"]))
        return program

    def save(self, path: str | Path) -> None:
        """Write the program to one file, atomically."""
        exported = export_graph(self.graph_module, self.example_inputs)
        save_archive(exported, Path(path), {
            "exits": self.exits, "facts": count_facts(self.graph),
            "sparse": list(sparse_tensors(self.graph_module)),
            "folded": folded_tensors(self.graph_module),
            "states": dict(self.states),
            "model_state": asdict(get_model_state(self.graph_module))})

    @property
    def graph(self) -> Graph:
        """The graph; see `graph_module`."""
        return self.graph_module.graph

    def _with_states(self, states: Mapping[str, str]) -> Program:
        values = [node.meta["val"] for node in output_nodes(self.graph)]
        outputs = dict(zip(name_outputs(self.graph), values, strict=True))
        record_states(self.graph_module,
                      read_states(states, self.graph_module, self.inputs, outputs))
        return self

    @property
    def states(self) -> Mapping[str, str]:
        """The input that takes each state output at the next call, by names."""
        return recorded_states(self.graph_module)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Name, shape and dtype of every input tensor, in order."""
        specs = read_input_specs(self.graph_module)
        if specs is None:
            raise ModelError("the graph's inputs have no shapes; capture it with Program.capture")
        return specs

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the input tensors, in order; of a nested input, one per tensor."""
        return tuple(node.name for node in self.graph.nodes if node.op == "placeholder")

    @property
    def is_quantized(self) -> bool:
        """Whether the graph quantizes or dequantizes any tensor."""
        return any(map(is_quantization, self.calls()))

    @property
    def sparsity(self) -> dict[str, float]:
        """Fraction of zeros in each tensor marked sparse, whose zeros every training keeps."""
        state = self.state_dict()
        return {name: float((state[name] == 0).double().mean())
                for name in sparse_tensors(self.graph_module)}

    def calls(self) -> Iterator[Node]:
        """The operator calls, in order."""
        return calls(self.graph)

    def copy(self, *, share_tensors: bool = False) -> Program:
        """A copy with its own graph and, unless ``share_tensors``, its own tensors."""
        return Program(copy_graph(self.graph_module, share_tensors=share_tensors),
                       self.example_inputs, self.exits)

    def with_examples(self, samples: Sequence[Tensor]) -> Program:
        """This program with the first and last of these samples as its example inputs.

        Proofs and exports are checked on them. The graph is shared with this program.

        Args:
            samples: A batch of each input, in order.

        Raises:
            DataError: Number, shapes or dtypes do not match the program's inputs.

        Example:
            >>> program = Program.capture(nn.ReLU(), torch.zeros(1, 3))
            >>> program.with_examples([torch.ones(5, 3)]).example_inputs
            (tensor([[1., 1., 1.],
                    [1., 1., 1.]]),)
        """
        inputs = select_examples(samples, self.example_inputs, self.inputs)
        return Program(self.graph_module, inputs, self.exits)

    def module(self, train: bool = False) -> CapturedModule:
        """A trainable module with its own parameters, in training or evaluation mode."""
        return make_trainable(self.graph_module, self.exits).train(train)

    def state_dict(self) -> dict[str, Tensor]:
        """Every parameter and buffer, detached, under its original name.

        This includes buffers that are not in the model's own state dict.
        """
        return dict(self.graph_module.state_dict())

    def with_state(self, state: Mapping[str, Tensor]) -> Program:
        """This program with other weights.

        Args:
            state: The `state_dict` of a program or of the captured model. Tensors that are not in
                the model's state dict keep their values, and entries that its forward pass does not
                read are ignored.

        Raises:
            ModelError: Names or shapes do not match, or the program has a tensor that the model's
                code computed from ``state``.

        Example:
            >>> norm = nn.BatchNorm1d(4)
            >>> program = Program.capture(norm, torch.zeros(1, 4))
            >>> _ = norm.bias.data.fill_(1.5)
            >>> program.with_state(norm.state_dict()).state_dict()["bias"].tolist()
            [1.5, 1.5, 1.5, 1.5]
        """
        program = self.copy()
        load_state(program.graph_module, state)
        return program

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Program:
        """The same as `with_state`, under torch's name: a program is a value and never changes.

        Unlike `torch.nn.Module.load_state_dict` it returns a new program, so keep the result.

        Raises:
            ModelError: As for `with_state`.

        Example:
            >>> layer = nn.Linear(4, 2)
            >>> program = Program.capture(layer, torch.zeros(1, 4))
            >>> _ = layer.bias.data.zero_()
            >>> program = program.load_state_dict(layer.state_dict())
            >>> program.state_dict()["bias"].tolist()
            [0.0, 0.0]
        """
        return self.with_state(state)

    def run(self, *inputs: Any, **named: Any) -> Any:
        """Evaluate without gradients; outputs are nested as the model's are.

        Args:
            inputs: The inputs in order, nested as the model's are.
            named: Further inputs by name.

        Raises:
            DataError: The inputs differ from the example inputs in number, dtype or shape, except
                for the batch size.
        """
        with torch.no_grad():
            return self.module()(*inputs, **named)

    def costs(self) -> Costs:
        """Multiply-accumulates, parameters, bytes and peak memory; see `Costs`."""
        return count_costs(self.graph_module)
