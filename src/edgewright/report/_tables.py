"""What every table of the page is made of: sections, heads, cells that name their origin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgewright.core import Measurement
from edgewright.report._html import Markup, el, join, typeset
from edgewright.report._text import format_exact, format_figure, origin_words


def section(title: str, *children: str, lead: str = "") -> Markup:
    """A headed part of the page, with a sentence under the heading; nothing where it is empty."""
    if not any(children):
        return Markup("")
    opening = el("p", lead, class_="lead") if lead else ""
    return el("section", el("h2", title), opening, *children)


def table(head: Sequence[str], rows: Iterable[Markup], class_: str = "") -> Markup:
    """A table that scrolls sideways where the page is too narrow.

    Args:
        head: Column headings; the first column is text, the others are set as numbers unless the
            style sheet says otherwise.
        rows: `tr` or `tbody` elements.
        class_: For the style sheet.
    """
    heads = (el("th", words, scope="col") for words in head)
    body = join(rows)
    body = body if body.startswith("<tbody") else el("tbody", body)
    return el("div", el("table", el("thead", el("tr", *heads)), body, class_=class_ or None),
              class_="scroll")


def row(head: str, *cells: str, class_: str | None = None) -> Markup:
    """A table row whose first cell heads it; a cell that is not a `td` yet becomes one."""
    written = (cell if isinstance(cell, Markup) and cell.startswith("<td") else el("td", cell)
               for cell in cells)
    return el("tr", el("th", head, scope="row"), *written, class_=class_)


def value(measurement: Measurement | None) -> Markup:
    """A figure's value, with every digit in its title; a dash where it is missing."""
    if measurement is None:
        return el("span", "\u2013", class_="none")
    name, number = measurement.name, measurement.value
    return el("data", typeset(format_figure(name, number)), value=f"{number:.9g}",
              title=format_exact(name, number))


def origin(measurement: Measurement | None) -> Markup:
    """Small print: measured or modelled, and what stands behind the figure."""
    if measurement is None:
        return Markup("")
    words = origin_words(measurement)
    if measurement.name == "size_bytes":
        words = (*words, format_exact("size_bytes", measurement.value))
    return el("small", join([el("span", word) for word in words], ", "),
              class_=f"origin {measurement.kind}")


def figure_cell(measurement: Measurement | None, name: str | None = None) -> Markup:
    """A cell with a figure and its origin; ``name`` heads it where the table becomes cards."""
    return el("td", value(measurement), origin(measurement), data_name=name)
