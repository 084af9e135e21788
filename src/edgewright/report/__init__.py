"""A run's report, as one self-contained HTML page and as a terminal table. No torch."""

from edgewright.report._front import front_table
from edgewright.report._page import draw_front, render_front, render_html
from edgewright.report._routes import route_table
from edgewright.report._rows import Row, comparison_rows
from edgewright.report._terminal import summary_table
from edgewright.report._text import format_bits

__all__ = [
    "Row",
    "comparison_rows",
    "draw_front",
    "format_bits",
    "front_table",
    "render_front",
    "render_html",
    "route_table",
    "summary_table",
]
