"""A small HTML writer that escapes all text that is not `Markup`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import Final

from edgewright.report._text import printable

_VOID: Final = frozenset({"meta", "br"})
_TIMES: Final = re.compile(r"(?<=\d)x(?![\w;])")
_MINUS: Final = re.compile(r"(?<![\w.;])-(?=\d)")


class Markup(str):
    """Text that is HTML already; any other text is escaped."""

    __slots__ = ()


def el(tag: str, *children: str, **attributes: str | float | None) -> Markup:
    """Write one element.

    Args:
        tag: Its name.
        children: `Markup` is inserted unchanged, any other text is escaped.
        attributes: ``class_`` writes ``class``, ``stroke_width`` writes ``stroke-width``; None
            leaves an attribute out.

    Example:
        >>> el("p", "a < b", el("b", "c"), class_="note")
        '<p class="note">a &lt; b<b>c</b></p>'
    """
    written = "".join(f' {name.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
                      for name, value in attributes.items() if value is not None)
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def join(parts: Iterable[str], separator: str = "") -> Markup:
    """Join parts into one, escaping those that are not `Markup`.

    Example:
        >>> join(["<", Markup("<br>")], " ")
        '&lt; <br>'
    """
    return Markup(separator.join(
        part if isinstance(part, Markup) else escape(printable(part)) for part in parts))


def typeset(text: str) -> Markup:
    """Escape text and typeset it with real multiplication and minus signs.

    Example:
        >>> typeset("-0.3 points, 4.1x smaller") == "\u22120.3 points, 4.1\u00d7 smaller"
        True
    """
    return Markup(_MINUS.sub("\u2212", _TIMES.sub("\u00d7", escape(printable(text)))))


def _attribute(value: str | float) -> str:
    return escape(printable(value if isinstance(value, str) else f"{value:.6g}"))
