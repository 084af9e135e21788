"""Networks that compute with integers alone: their steps, and what these compute bit for bit."""

from edgewright.integers._archive import from_bytes, to_bytes
from edgewright.integers._check import convolution_bound
from edgewright.integers._exits import ExitTest
from edgewright.integers._network import IntegerNetwork, Structure
from edgewright.integers._ports import from_integers, to_integers
from edgewright.integers._reference import run_exits, run_reference
from edgewright.integers._rounding import Scaling, choose_scaling, scale_integers
from edgewright.integers._steps import (
    AveragePool,
    Convolution,
    Copy,
    IntegerTensor,
    Lookup,
    MaximumPool,
    Part,
    Port,
    Product,
    Step,
    Sum,
    Window,
)

__all__ = [
    "AveragePool",
    "Convolution",
    "Copy",
    "ExitTest",
    "IntegerNetwork",
    "IntegerTensor",
    "Lookup",
    "MaximumPool",
    "Part",
    "Port",
    "Product",
    "Scaling",
    "Step",
    "Structure",
    "Sum",
    "Window",
    "choose_scaling",
    "convolution_bound",
    "from_bytes",
    "from_integers",
    "run_exits",
    "run_reference",
    "scale_integers",
    "to_bytes",
    "to_integers",
]
