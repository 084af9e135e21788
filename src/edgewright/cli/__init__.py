"""The command line: one file per command."""

from edgewright.cli._main import app, main

__all__ = [
    "app",
    "main",
]
