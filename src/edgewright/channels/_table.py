"""Channel groups as a readable table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Final

_HEAD: Final = ("group", "channels", "sliced layers [dimension], or reason")
_LINE: Final = 100
_MIN_WIDTH: Final = 30  # of the last column, even if the names are long


def format_groups_table(groups: Iterable[tuple[str, int, Sequence[tuple[str, int]]]],
                        kept: Mapping[str, str]) -> str:
    """Format groups as a table: one line per group, and one per weight that cannot be pruned.

    The tensors of a layer are merged: ``conv1[0]`` is dimension 0 of the layer's weight and of its
    bias. Dimension 0 of a weight has its output channels, dimension 1 its input channels.

    Args:
        groups: Name, number of channels, and name and dimension of every sliced tensor.
        kept: Weight name to the reason why its output channels cannot be pruned.

    Example:
        >>> print(format_groups_table(
        ...     [("a.weight", 8, [("a.weight", 0), ("a.bias", 0), ("b.weight", 1)])],
        ...     {"b.weight": "it is an output"}))
        group     channels  sliced layers [dimension], or reason
        a.weight         8  a[0], b[1]
        b.weight      kept  it is an output
    """
    rows = [_HEAD, *((name, str(channels), ", ".join(_sliced_layers(slices)))
                     for name, channels, slices in groups),
            *((name, "kept", reason) for name, reason in kept.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    indent = sum(widths) + 2 * len(widths)
    lines = []
    for name, channels, last in rows:
        first, *others = wrap(last, max(_MIN_WIDTH, _LINE - indent),
                              break_long_words=False) or [""]
        lines.append(f"{name:{widths[0]}}  {channels:>{widths[1]}}  {first}".rstrip())
        lines += [" " * indent + other for other in others]
    return "\n".join(lines)


def _sliced_layers(slices: Sequence[tuple[str, int]]) -> list[str]:
    dims: dict[str, set[int]] = {}
    for tensor, dim in slices:
        dims.setdefault(tensor.rpartition(".")[0] or tensor, set()).add(dim)
    return [f"{layer}[{', '.join(map(str, sorted(found)))}]" for layer, found in dims.items()]
