"""The words everyone speaks: units, budget, measurement, manifest. No torch."""

from edgewright.core._budget import CONSTRAINTS, Breach, Budget, Limit
from edgewright.core._choice import Choice
from edgewright.core._manifest import (
    FORMAT_VERSION,
    LayerLatency,
    LayerRecord,
    LowBitTensor,
    Manifest,
    Parity,
    Segment,
    StageRecord,
    TensorSpec,
)
from edgewright.core._measurement import UNITS, FigureName, Figures, Measurement
from edgewright.core._operating_point import (
    GATE_INPUTS,
    NEVER,
    POLICIES,
    CurvePoint,
    ExitProfile,
    ExitRule,
    Guarantee,
    OperatingPoint,
    Policy,
    format_threshold,
)
from edgewright.core._preprocessing import Preprocessing, image_pixels
from edgewright.core._reasons import kept_words
from edgewright.core._settings import Settings, Value
from edgewright.core._storage import write_atomically
from edgewright.core._units import format_count, format_size, parse_quantity

__all__ = [
    "CONSTRAINTS",
    "FORMAT_VERSION",
    "GATE_INPUTS",
    "NEVER",
    "POLICIES",
    "UNITS",
    "Breach",
    "Budget",
    "Choice",
    "CurvePoint",
    "ExitProfile",
    "ExitRule",
    "FigureName",
    "Figures",
    "Guarantee",
    "LayerLatency",
    "LayerRecord",
    "Limit",
    "LowBitTensor",
    "Manifest",
    "Measurement",
    "OperatingPoint",
    "Parity",
    "Policy",
    "Preprocessing",
    "Segment",
    "Settings",
    "StageRecord",
    "TensorSpec",
    "Value",
    "format_count",
    "format_size",
    "format_threshold",
    "image_pixels",
    "kept_words",
    "parse_quantity",
    "write_atomically",
]
