"""What of a quantized program's bytes are still floating point, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from edgewright.core import format_size, format_skip_reasons
from edgewright.graph import stored_tensors
from edgewright.program import Program

_REAL_SHARE: Final = 0.05
_REAL_BYTES: Final = 1024  # less is a matter of biases
_VECTOR: Final = "a bias, or a vector that is added or multiplied in floating point"
_CONSTANT: Final = "a constant of the program, no weight"


@final
@dataclass(frozen=True)
class FloatShare:
    """The tensors in floating point that a quantized program stores, beside all it stores.

    Attributes:
        tensors: Bytes of each by name, the largest first; scales of integers are not among them.
        reasons: Why, by name.
        total_bytes: Of everything stored.
    """

    tensors: Mapping[str, int]
    reasons: Mapping[str, str]
    total_bytes: int

    @property
    def size_bytes(self) -> int:
        """Of all of them."""
        return sum(self.tensors.values())

    @property
    def is_real(self) -> bool:
        """Whether they are a share that makes a file larger than who quantizes expects."""
        return (self.size_bytes >= _REAL_BYTES
                and self.size_bytes >= _REAL_SHARE * self.total_bytes)

    def __str__(self) -> str:
        """How many bytes, of which tensors, and why."""
        sizes: Counter[str] = Counter()
        for name, reason in self.reasons.items():
            sizes[reason] += self.tensors[name]
        words = format_skip_reasons({name: f"{format_size(sizes[reason])}: {reason}"
                            for name, reason in self.reasons.items()})
        share = self.size_bytes / max(self.total_bytes, 1)
        return (f"{format_size(self.size_bytes)} of the {format_size(self.total_bytes)} stored "
                f"({share:.0%}) stay in floating point: {words}")


def float_share(program: Program, kept: Mapping[str, str]) -> FloatShare:
    """Look at what a quantized program stores.

    Args:
        program: Quantized.
        kept: Reasons that are known, by the name of the tensor; of `Placement`.
    """
    stored = stored_tensors(program.graph_module)
    scales = {str(source.target) for node in program.calls() if "dequantize" in str(node.target)
              for source in node.all_input_nodes[1:]}
    floats = {name: tensor for name, tensor in stored.items()
              if tensor.is_floating_point() and name not in scales}
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in floats.items()}
    tensors = dict(sorted(sizes.items(), key=lambda item: -item[1]))
    return FloatShare(
        tensors,
        {name: kept.get(name, _VECTOR if floats[name].ndim < 2 else _CONSTANT)
         for name in tensors},
        sum(tensor.numel() * tensor.element_size() for tensor in stored.values()))
