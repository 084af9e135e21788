"""The whole page."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from edgewright.core import Manifest
from edgewright.report._comparison import agreement, budget, comparison
from edgewright.report._exits import exit_chart
from edgewright.report._headline import headline
from edgewright.report._html import Markup, el
from edgewright.report._layers import layer_table, uncounted
from edgewright.report._precision import integers
from edgewright.report._provenance import provenance
from edgewright.report._stages import stage_chart, stage_table

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def render_html(manifest: Manifest) -> str:
    """Write a run's report as one HTML page that needs nothing from outside.

    Styles and drawings are inline, there is no script, and the page's policy forbids loading
    anything. All text of the manifest is escaped. Figures that are missing are left out.

    Args:
        manifest: Of the bundle.

    Returns:
        The page, to be written as UTF-8.

    Example:
        >>> from edgewright.core import Budget, Figures, Measurement
        >>> size = Measurement(name="size_bytes", value=410e3, kind="measured")
        >>> small = size.replace(value=100e3)
        >>> page = render_html(Manifest(
        ...     model="net", data="digits", recipe={}, seed=0, budget=Budget(size="100 kB"),
        ...     versions={}, machine="x86_64, 4 cores", inputs=(), outputs=(), segments=(),
        ...     original=Figures.of(size), compressed=Figures.of(small), simulated=Figures()))
        >>> "Budget held" in page, "smaller" in page, "<script" in page
        (True, True, False)
    """
    parts = (comparison, integers, budget, agreement, stage_chart, stage_table, exit_chart,
             layer_table, uncounted)
    body = el("body", headline(manifest), el("main", *(part(manifest) for part in parts)),
              provenance(manifest))
    return f"<!doctype html>\n{el('html', _head(manifest), body, lang='en')}\n"


def _head(manifest: Manifest) -> Markup:
    style = files("edgewright.report").joinpath("style.css").read_text(encoding="utf-8")
    return el("head", el("meta", charset="utf-8"),
              el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
              el("meta", name="viewport", content="width=device-width, initial-scale=1"),
              el("meta", name="color-scheme", content="light dark"),
              el("title", f"{manifest.model} on {manifest.data}: compression report"),
              el("style", Markup(style)))
