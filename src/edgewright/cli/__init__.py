"""The command line: one file a command."""

from edgewright.cli._main import app, main

__all__ = [
    "app",
    "main",
]
