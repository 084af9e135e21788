"""Translation into networks that compute with integers alone."""

from edgewright.exporters.integers._exit_rules import make_exit_rules
from edgewright.exporters.integers._lower import to_integer_network

__all__ = ["make_exit_rules", "to_integer_network"]
