"""A run's manifest -> one self-contained HTML page, and a table for the terminal. No torch."""

from edgewright.report._page import render_html
from edgewright.report._rows import Row, comparison_rows
from edgewright.report._terminal import summary_table
from edgewright.report._text import bits_words

__all__ = [
    "Row",
    "bits_words",
    "comparison_rows",
    "render_html",
    "summary_table",
]
