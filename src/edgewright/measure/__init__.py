"""Latency, memory and modelled energy of any callable."""

from edgewright.measure._energy import ENERGY_MODEL, energy_mj
from edgewright.measure._latency import (
    Latency,
    compare_latency,
    measure_latency,
    pin_to_core,
    time_in_turn,
)
from edgewright.measure._machine import machine, peak_rss_bytes

__all__ = [
    "ENERGY_MODEL",
    "Latency",
    "compare_latency",
    "energy_mj",
    "machine",
    "measure_latency",
    "peak_rss_bytes",
    "pin_to_core",
    "time_in_turn",
]
