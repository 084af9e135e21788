"""The whole page."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from edgewright.core import Manifest
from edgewright.report._comparison import budget_table, comparison_table, parity_table
from edgewright.report._exits import exits_section
from edgewright.report._headline import headline
from edgewright.report._html import Markup, el
from edgewright.report._layers import layer_table, uncounted_operators
from edgewright.report._precision import precision_section
from edgewright.report._provenance import provenance
from edgewright.report._routes import routes_section
from edgewright.report._stages import stage_chart, stage_table

_CONTENT_SECURITY_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def render_html(manifest: Manifest) -> str:
    """Render a run's report as one self-contained HTML page.

    Styles and drawings are inline, there is no script, and the page's content security policy
    forbids loading anything. All text from the manifest is escaped. Missing figures are omitted.

    Args:
        manifest: The bundle's manifest.

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
        stage_table)), exits_section(manifest), routes_section(manifest),
              layer_table(report), uncounted_operators(report))
    body = el("body", headline(manifest), main, provenance(manifest))
    return f"<!doctype html>\n{el('html', _head(manifest), body, lang='en')}\n"


def _head(manifest: Manifest) -> Markup:
    style = files("edgewright.report").joinpath("style.css").read_text(encoding="utf-8")
    return el("head", el("meta", charset="utf-8"),
              el("meta", http_equiv="Content-Security-Policy", content=_CONTENT_SECURITY_POLICY),
              el("meta", name="viewport", content="width=device-width, initial-scale=1"),
              el("meta", name="color-scheme", content="light dark"),
              el("title", f"{manifest.model.name} on {manifest.report.data}: compression report"),
              el("style", Markup(style)))
