"""Running a model that chooses its path by the input: only the branch taken runs. No torch."""

from edgewright.runtime.routing._run_routes import Router, RouteResult

__all__ = ["RouteResult", "Router"]
