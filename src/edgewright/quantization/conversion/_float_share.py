"""The share of a quantized program's bytes that is still floating point, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from edgewright.core import format_size, format_skip_reasons
from edgewright.graph import is_dequantization, stored_tensors
from edgewright.program import Program

_SIGNIFICANT_SHARE: Final = 0.05
_SIGNIFICANT_BYTES: Final = 1024  # biases alone usually take less
_VECTOR: Final = "a bias, or a vector that is added or multiplied in floating point"
_CONSTANT: Final = "a constant of the program, not a weight"


@final
@dataclass(frozen=True)
class FloatShare:
    """The floating-point tensors that a quantized program stores.

    Attributes:
        tensors: Size of each in bytes, by name, the largest first; excludes the scales of
            quantized tensors.
        reasons: Why each tensor stays in floating point, by name.
        total_bytes: Size of everything the program stores.
    """

    tensors: Mapping[str, int]
    reasons: Mapping[str, str]
    total_bytes: int

    @property
    def size_bytes(self) -> int:
        """Total size of the floating-point tensors."""
        return sum(self.tensors.values())

    @property
    def is_significant(self) -> bool:
        """Whether the share is large enough to make the file noticeably larger than expected."""
        return (self.size_bytes >= _SIGNIFICANT_BYTES
                and self.size_bytes >= _SIGNIFICANT_SHARE * self.total_bytes)

    def __str__(self) -> str:
        """The bytes, the tensors and the reasons."""
        sizes: Counter[str] = Counter()
        for name, reason in self.reasons.items():
            sizes[reason] += self.tensors[name]
        words = format_skip_reasons({name: f"{format_size(sizes[reason])}: {reason}"
                            for name, reason in self.reasons.items()})
        share = self.size_bytes / max(self.total_bytes, 1)
        return (f"{format_size(self.size_bytes)} of the {format_size(self.total_bytes)} stored "
                f"({100 * share:.0f} %) stay in floating point: {words}")


def measure_float_share(program: Program, skip_reasons: Mapping[str, str]) -> FloatShare:
    """Measure how many bytes of a quantized program are floating point.

    Args:
        program: A quantized program.
        skip_reasons: Known reasons by name of the tensor, as in `Placement`.
    """
    stored = stored_tensors(program.graph_module)
    scales = {str(source.target) for node in program.calls() if is_dequantization(node)
              for source in node.all_input_nodes[1:]}
    floats = {name: tensor for name, tensor in stored.items()
              if tensor.is_floating_point() and name not in scales}
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in floats.items()}
    tensors = dict(sorted(sizes.items(), key=lambda item: -item[1]))
    return FloatShare(
        tensors,
        {name: skip_reasons.get(name, _VECTOR if floats[name].ndim < 2 else _CONSTANT)
         for name in tensors},
        sum(tensor.numel() * tensor.element_size() for tensor in stored.values()))
