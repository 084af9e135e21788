"""A model's outputs as plain dicts, tuples and lists, whatever classes the model uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any


def as_plain(value: Any) -> Any:
    """Outputs without classes of their own, so that a saved program needs none of them.

    A mapping (such as a ModelOutput of Hugging Face), a dataclass and a named tuple become a dict
    of their fields; fields that are None are left out.

    Example:
        >>> from collections import OrderedDict
        >>> as_plain(OrderedDict(logits=1, hidden=None, more=[2, (3,)]))
        {'logits': 1, 'more': [2, (3,)]}
    """
    if type(value) is dict:
        return {key: as_plain(part) for key, part in value.items()}
    if isinstance(value, Mapping):
        return _fields({str(key): part for key, part in value.items()})
    if is_dataclass(value) and not isinstance(value, type):
        return _fields({entry.name: getattr(value, entry.name) for entry in fields(value)})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return _fields(dict(zip(value._fields, value, strict=True)))
    if isinstance(value, tuple):
        return tuple(map(as_plain, value))
    return list(map(as_plain, value)) if isinstance(value, list) else value


def name_output(path: Sequence[Any]) -> str:
    """The name of an output: its path of keys; positions alone give "output_0_1".

    Example:
        >>> from torch.utils import _pytree as pytree
        >>> outputs = {"age": 0, "more": (1, 2)}
        >>> [name_output(path) for path, _ in pytree.tree_flatten_with_path(outputs)[0]]
        ['age', 'more.0', 'more.1']
    """
    keys = [name_key(entry) for entry in path]
    if all(key.isdigit() for key in keys):
        return f"output_{'_'.join(keys) or 0}"
    return ".".join(keys)


def name_key(entry: Any) -> str:
    """One step of a path: a key, a position or an attribute."""
    return str(getattr(entry, "key", getattr(entry, "idx", getattr(entry, "name", entry))))


def _fields(entries: dict[str, Any]) -> dict[str, Any]:
    return {name: as_plain(part) for name, part in entries.items() if part is not None}
