"""Integer networks as plain C99."""

from edgewright.integers.c._host import CompiledNetwork, find_compiler
from edgewright.integers.c._memory import MemoryPlan, plan_memory
from edgewright.integers.c._source import CSource, write_c

__all__ = ["CSource", "CompiledNetwork", "MemoryPlan", "find_compiler", "plan_memory", "write_c"]
