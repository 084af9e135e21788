"""Loading weights by name, and how the state dicts of a model and its program differ."""

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
_PROGRAM_KEY: Final = "edgewright.program"  # in the metadata of a state dict


@final
@dataclass(frozen=True)
class ModelState:
    """How the state dict of a captured model differs from its program's.

    Attributes:
        unlisted: Tensors of the program that are not in the model's state dict: non-persistent
            buffers and tensors that were plain attributes.
        unread: Names in the model's state dict that its forward pass does not read, for example
            ``num_batches_tracked``.
        ties: For tied tensors, from each other name to the name that the program uses.
    """

    unlisted: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    ties: dict[str, str] = field(default_factory=dict)


def derive_model_state(exported: ExportedProgram) -> ModelState:
    """The difference between the state dicts, derived from the exported program."""
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
    """The difference between the state dicts after constant folding.

    Args:
        exported: The exported model.
        folded: Tensors that capture computed, each with the stored tensors it was computed from.
    """
    found = derive_model_state(exported)
    without_sources = (name for name, sources in folded.items() if not sources)
    return replace(found, unlisted=(*found.unlisted, *without_sources))


def set_model_state(module: GraphModule, state: ModelState) -> None:
    """Store the difference on a graph module, in place; copies of the module keep it."""
    module.meta[_KEY] = state


def get_model_state(module: GraphModule) -> ModelState:
    """The stored difference; an empty one if the module was not captured."""
    found = module.meta.get(_KEY, ModelState())
    assert isinstance(found, ModelState)  # noqa: S101 - the key is ours
    return found


def read_model_state(path: str | Path, content: Any) -> ModelState:
    """Parse a `ModelState` from its `dataclasses.asdict` form, read from the file ``path``.

    Raises:
        ModelError: The content does not have that form.
    """
    try:
        unlisted, unread, ties = (content[key] for key in ("unlisted", "unread", "ties"))
        names = [*unlisted, *unread, *ties, *ties.values()]
    except (TypeError, LookupError, AttributeError) as error:
        raise ModelError(f"{path} describes the model's state dict as {content!r}; expected lists "
                         "of names") from error
    if not all(isinstance(name, str) for name in names):
        raise ModelError(f"{path} describes the model's state dict as {content!r}; expected names")
    return ModelState(tuple(unlisted), tuple(unread), dict(ties))


@torch.no_grad()
def load_state(module: GraphModule, state: Mapping[str, Tensor]) -> None:
    """Overwrite a graph module's tensors with those of the same names, in place.

    Raises:
        ModelError: Names, shapes or kinds of dtypes do not match (the message lists them), or the
            state is from the original model, whose code computes a folded tensor from it.
    """
    own, model_state = module.state_dict(), get_model_state(module)
    folded = folded_tensors(module)
    if _is_from_model(state):
        _refuse_sources({name: sources for name, sources in folded.items() if name in sources})
    given = _merge_tied(state, model_state.ties, own)
    faults = [f"{name} is missing" for name in own
              if name not in given and name not in model_state.unlisted]
    faults += [f"{name} is unknown" for name in given
               if name not in own and name not in model_state.unread]
    faults += [f"{name} {fault}" for name in own if name in given
               and (fault := _mismatch(given[name], own[name]))]
    if faults:
        _refuse_sources({name: sources for name, sources in folded.items()
                         if not given.keys().isdisjoint({*sources} - own.keys())})
        raise ModelError(f"the weights do not match the program: {_summarize(faults)}; pass the "
                         "state_dict() of the program, or of the model it was captured from")
    for name in own.keys() & given.keys():
        own[name].copy_(given[name])


def mark_state(_module: object, _state: object, _prefix: str, metadata: dict[str, Any]) -> None:
    """Mark a state dict as a program's, in its metadata; a hook for torch's `state_dict`."""
    metadata[_PROGRAM_KEY] = True


def _is_from_model(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict was returned by an ordinary module, not by a program's module."""
    metadata = getattr(state, "_metadata", None)
    return metadata is not None and _PROGRAM_KEY not in metadata.get("", {})


def _refuse_sources(folded: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse weights from which the program has folded tensors, if there are any."""
    for name, sources in folded.items():
        raise ModelError("the weights do not match the program: the model's code computed "
                         f"{name} from {', '.join(sources[:4])} at capture; load the weights into "
                         "the model and capture it again")


def _merge_tied(state: Mapping[str, Tensor], ties: Mapping[str, str],
            own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with every tied tensor once, under the name that the program uses."""
    given = {name: value for name, value in state.items() if name in own or name not in ties}
    for name, kept in ties.items():
        if name not in state or name in own:
            continue
        if _differ(given.setdefault(kept, state[name]), state[name]):
            raise ModelError(f"the weights do not match the program: {name} and {kept} are one "
                             "tensor in the model and two different ones here; untie them in the "
                             "model and capture it again, or give both the same values")
    return given


def _differ(one: Any, other: Any) -> bool:
    return one is not other and not (isinstance(one, Tensor) and isinstance(other, Tensor)
                                     and torch.equal(one.detach().cpu(), other.detach().cpu()))


def _mismatch(given: Any, own: Tensor) -> str:
    """Describe why a tensor does not match; empty if it does."""
    if not isinstance(given, Tensor):
        return f"is a {type(given).__name__}, expected a tensor"
    if given.shape != own.shape:
        return f"has shape {tuple(given.shape)}, expected {tuple(own.shape)}"
    if given.is_floating_point() != own.is_floating_point():
        return f"holds {given.dtype}, expected {own.dtype}"
    return ""


def _summarize(faults: Iterable[str]) -> str:
    shown = list(faults)
    return "; ".join(shown[:4]) + (f"; and {len(shown) - 4} more" if len(shown) > 4 else "")
