"""Translation into networks that compute with integers alone."""

from edgewright.exporters.integers._lower import to_integer_network

__all__ = ["to_integer_network"]
