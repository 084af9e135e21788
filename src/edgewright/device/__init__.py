"""Measuring on the device itself: an agent that runs there and its client. No torch."""

from edgewright.device._bench import bench_here
from edgewright.device._client import bench_remotely
from edgewright.device._serve import create_app, serve

__all__ = [
    "bench_here",
    "bench_remotely",
    "create_app",
    "serve",
]
