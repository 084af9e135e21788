"""A run's report, as one self-contained HTML page and as a terminal table. No torch."""

from edgewright.report._page import render_html
from edgewright.report._routes import route_table
from edgewright.report._rows import Row, comparison_rows
from edgewright.report._terminal import summary_table
from edgewright.report._text import format_bits

__all__ = [
    "Row",
    "comparison_rows",
    "format_bits",
    "render_html",
    "route_table",
    "summary_table",
]
