"""Weights by name: how a model's own state dict and a program's differ, and what fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule

from edgewright.capture._constant_folding import folded_tensors
from edgewright.errors import ModelError

_KEY: Final = "edgewright.model_state"
_OF_PROGRAM: Final = "edgewright.program"  # in the metadata that torch gives a state dict


@final
@dataclass(frozen=True)
class ModelState:
    """How the state dict of a captured model differs from its program's.

    Attributes:
        unlisted: Tensors of the program that the model's state dict lacks: buffers that were
            not persistent, and tensors that were plain attributes.
        unread: Names of the model's state dict that its forward pass does not read, such as
            counters of batches.
        ties: By another name of a tensor, the one that the program keeps it under.
    """

    unlisted: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    ties: dict[str, str] = field(default_factory=dict)


def model_state_of(exported: ExportedProgram) -> ModelState:
    """The difference, read off what was exported."""
    signature, state = exported.graph_signature, exported.state_dict
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    read = [names[node.name] for node in exported.graph.nodes
            if node.op == "placeholder" and node.users and node.name in names]
    kept = {id(state[name]): name for name in read if name in state}
    unread = [name for name in state if name not in read]
    return ModelState(
        (*signature.non_persistent_buffers, *signature.lifted_tensor_constants),
        tuple(name for name in unread if id(state[name]) not in kept),
        {name: kept[id(state[name])] for name in unread if id(state[name]) in kept})


def state_after_folding(exported: ExportedProgram,
                        folded: Mapping[str, tuple[str, ...]]) -> ModelState:
    """The difference once capture has stored what the model computes from constants.

    Args:
        exported: What the model was exported to.
        folded: Tensors that capture computed, each with the stored tensors it was computed from.
    """
    found = model_state_of(exported)
    of_numbers = (name for name, sources in folded.items() if not sources)
    return replace(found, unlisted=(*found.unlisted, *of_numbers))


def note_model_state(module: GraphModule, noted: ModelState) -> None:
    """Note the difference on a graph module, in place; it travels with copies."""
    module.meta[_KEY] = noted


def noted_model_state(module: GraphModule) -> ModelState:
    """What is noted; of a module that was not captured, no difference."""
    found = module.meta.get(_KEY, ModelState())
    assert isinstance(found, ModelState)  # noqa: S101 - the key is ours
    return found


def read_model_state(path: str | Path, content: Any) -> ModelState:
    """What `dataclasses.asdict` made of one, read from the file ``path``.

    Raises:
        ModelError: It is not of that form.
    """
    try:
        unlisted, unread, ties = (content[key] for key in ("unlisted", "unread", "ties"))
        words = [*unlisted, *unread, *ties, *ties.values()]
    except (TypeError, LookupError, AttributeError) as error:
        raise ModelError(f"{path} says {content!r} of the model's state dict; expected lists of "
                         "names") from error
    if not all(isinstance(word, str) for word in words):
        raise ModelError(f"{path} says {content!r} of the model's state dict; expected names")
    return ModelState(tuple(unlisted), tuple(unread), dict(ties))


@torch.no_grad()
def load_state(module: GraphModule, state: Mapping[str, Tensor]) -> None:
    """Overwrite a graph module's tensors with others of their names, in place.

    Raises:
        ModelError: Names, shapes or kinds of numbers do not fit, and all that do not are named; or
            they are of a model whose code computes from them what the module holds.
    """
    own, noted = module.state_dict(), noted_model_state(module)
    folded = folded_tensors(module)
    if _is_a_models(state):
        _refuse_sources({name: sources for name, sources in folded.items() if name in sources})
    given = _untied(state, noted.ties, own)
    faults = [f"{name} is missing" for name in own
              if name not in given and name not in noted.unlisted]
    faults += [f"{name} is unknown" for name in given
               if name not in own and name not in noted.unread]
    faults += [f"{name} {fault}" for name in own if name in given
               and (fault := _misfit(given[name], own[name]))]
    if faults:
        _refuse_sources({name: sources for name, sources in folded.items()
                         if not given.keys().isdisjoint({*sources} - own.keys())})
        raise ModelError(f"the weights do not fit the program: {_listed(faults)}; give what its "
                         "own state_dict() returns, or that of the very model it was captured "
                         "from")
    for name in own.keys() & given.keys():
        own[name].copy_(given[name])


def mark_state(_module: object, _state: object, _prefix: str, metadata: dict[str, Any]) -> None:
    """Say in a state dict's metadata that it is a program's; a hook of torch's `state_dict`."""
    metadata[_OF_PROGRAM] = True


def _is_a_models(state: Mapping[str, Tensor]) -> bool:
    """Whether a module's own `state_dict` returned it, and no program's module."""
    metadata = getattr(state, "_metadata", None)
    return metadata is not None and _OF_PROGRAM not in metadata.get("", {})


def _refuse_sources(folded: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse what the program holds the results of; of nothing, nothing."""
    for name, sources in folded.items():
        raise ModelError(f"the weights do not fit the program: it holds {name} as the model's code "
                         f"computed it from {', '.join(sources[:4])}, and these weights are of "
                         "before that; load them into the model and capture it again")


def _untied(state: Mapping[str, Tensor], ties: Mapping[str, str],
            own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with every tied tensor once, under the name that the program has it by."""
    given = {name: value for name, value in state.items() if name in own or name not in ties}
    for name, kept in ties.items():
        if name not in state or name in own:
            continue
        if _differ(given.setdefault(kept, state[name]), state[name]):
            raise ModelError(f"the weights do not fit the program: {name} and {kept} are one "
                             "tensor in the model and two different ones here; untie them in the "
                             "model and capture it again, or give both the same values")
    return given


def _differ(one: Any, other: Any) -> bool:
    return one is not other and not (isinstance(one, Tensor) and isinstance(other, Tensor)
                                     and torch.equal(one.detach().cpu(), other.detach().cpu()))


def _misfit(given: Any, own: Tensor) -> str:
    """What is wrong with a tensor, or nothing."""
    if not isinstance(given, Tensor):
        return f"is a {type(given).__name__}, expected a tensor"
    if given.shape != own.shape:
        return f"has shape {tuple(given.shape)}, expected {tuple(own.shape)}"
    if given.is_floating_point() != own.is_floating_point():
        return f"holds {given.dtype}, expected {own.dtype}"
    return ""


def _listed(faults: Iterable[str]) -> str:
    shown = list(faults)
    return "; ".join(shown[:4]) + (f"; and {len(shown) - 4} more" if len(shown) > 4 else "")
