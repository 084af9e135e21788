"""The whole page."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from edgewright.core import Manifest, SearchRecord
from edgewright.report._comparison import budget_table, comparison_table, parity_table
from edgewright.report._exits import exits_section
from edgewright.report._front import render_front_svg
from edgewright.report._headline import headline
from edgewright.report._html import Markup, el
from edgewright.report._layers import layer_table, uncounted_operators
from edgewright.report._precision import precision_section
from edgewright.report._provenance import provenance
from edgewright.report._routes import routes_section
from edgewright.report._search import search_sections, stage_costs
from edgewright.report._stages import stage_chart, stage_table

_CONTENT_SECURITY_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def render_html(manifest: Manifest, search: SearchRecord | None = None) -> str:
    """Render a run's report as one self-contained HTML page.

    Styles and drawings are inline, there is no script, and the page's content security policy
    forbids loading anything. All text from the manifest is escaped. Missing figures are omitted.

    Args:
        manifest: The bundle's manifest.
        search: The search that it is the result of, if any.

    Returns:
        The page, to be written as UTF-8.

    Example:
        >>> from edgewright.core import Budget, Figures, Measurement, ModelSpec, RunReport
        >>> size = Measurement(name="size_bytes", value=410e3, kind="measured")
        >>> small = size.replace(value=100e3)
        >>> page = render_html(Manifest(
        ...     model=ModelSpec(name="net", inputs=(), outputs=(), segments=()),
        ...     report=RunReport(data="digits", recipe={}, seed=0, budget=Budget(size="100 kB"),
        ...                      versions={}, machine="x86_64, 4 cores", simulated=Figures(),
        ...                      original=Figures.of(size), compressed=Figures.of(small))))
        >>> "Budget met" in page, "smaller" in page, "<script" in page
        (True, True, False)
    """
    report = manifest.report
    main = el("main", *(part(report) for part in (
        comparison_table, precision_section, budget_table, parity_table, stage_chart,
        stage_table)), *(() if search is None else (
            stage_costs(report), search_sections(search))),
              exits_section(manifest), routes_section(manifest),
              layer_table(report), uncounted_operators(report))
    title = f"{manifest.model.name} on {manifest.report.data}: compression report"
    return _page(title, headline(manifest), main, provenance(manifest))


def render_front(record: SearchRecord, name: str) -> str:
    """Render the front of a search as one self-contained HTML page, as `render_html` does.

    Args:
        record: The search.
        name: What it is called in the heading.

    Returns:
        The page, to be written as UTF-8.
    """
    header = el("header", el("p", "Search", class_="kicker"), el("h1", el("bdi", name)))
    return _page(f"{name}: search", header, el("main", search_sections(record)))


def draw_front(record: SearchRecord) -> str:
    """Draw the front of a search as one SVG file: score against size, score against latency.

    It follows the reader's light or dark mode, and loads nothing.

    Args:
        record: The search.

    Returns:
        The drawing, to be written as UTF-8.
    """
    return render_front_svg(record, _style())


def _page(title: str, *parts: Markup) -> str:
    body = el("body", *parts)
    return f"<!doctype html>\n{el('html', _head(title), body, lang='en')}\n"


def _head(title: str) -> Markup:
    return el("head", el("meta", charset="utf-8"),
              el("meta", http_equiv="Content-Security-Policy", content=_CONTENT_SECURITY_POLICY),
              el("meta", name="viewport", content="width=device-width, initial-scale=1"),
              el("meta", name="color-scheme", content="light dark"),
              el("title", title), el("style", Markup(_style())))


def _style() -> str:
    return files("edgewright.report").joinpath("style.css").read_text(encoding="utf-8")
