"""Operators."""

from edgewright.program._operators._rules import propagate, resize
from edgewright.program._operators._tracker import Labels, Removal, Tracker

__all__ = ["Labels", "Removal", "Tracker", "propagate", "resize"]
