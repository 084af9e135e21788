"""Building blocks of the page: sections, tables, and cells that show a figure's origin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgewright.core import Measurement
from edgewright.report._html import Markup, el, join, typeset
from edgewright.report._text import format_exact, format_figure, format_origin


def section(title: str, *children: str, lead: str = "") -> Markup:
    """A section with a heading and an introduction; nothing if it has no content."""
    if not any(children):
        return Markup("")
    opening = el("p", lead, class_="lead") if lead else ""
    return el("section", el("h2", title), opening, *children)


def table(head: Sequence[str], rows: Iterable[Markup], class_: str = "") -> Markup:
    """A table that scrolls horizontally if the page is too narrow.

    Args:
        head: Column headings; the first column is text, the others are aligned as numbers unless
            the style sheet overrides it.
        rows: `tr` or `tbody` elements.
        class_: For the style sheet.
    """
    heads = (el("th", heading, scope="col") for heading in head)
    body = join(rows)
    body = body if body.startswith("<tbody") else el("tbody", body)
    return el("div", el("table", el("thead", el("tr", *heads)), body, class_=class_ or None),
              class_="scroll")


def row(head: str, *cells: str, class_: str | None = None) -> Markup:
    """A table row whose first cell is its heading; other cells are wrapped in `td` if needed."""
    written = (cell if isinstance(cell, Markup) and cell.startswith("<td") else el("td", cell)
               for cell in cells)
    return el("tr", el("th", head, scope="row"), *written, class_=class_)


def value(measurement: Measurement | None) -> Markup:
    """A figure's value, with all digits in its tooltip; a dash if it is missing."""
    if measurement is None:
        return el("span", "\u2013", class_="none")
    spec, number = measurement.spec, measurement.value
    return el("data", typeset(format_figure(spec, number)), value=f"{number:.9g}",
              title=format_exact(spec, number))


def origin(measurement: Measurement | None) -> Markup:
    """A figure's origin in small print: measured or modelled, data, runtime and spread."""
    if measurement is None:
        return Markup("")
    parts = format_origin(measurement)
    if measurement.name == "size_bytes":
        parts = (*parts, format_exact("size_bytes", measurement.value))
    return el("small", join([el("span", part) for part in parts], ", "),
              class_=f"origin {measurement.kind}")


def figure_cell(measurement: Measurement | None, name: str | None = None) -> Markup:
    """A cell with a figure and its origin; ``name`` is its heading on a narrow page."""
    return el("td", value(measurement), origin(measurement), data_name=name)
