"""The vocabulary of all layers: units, budget, measurements, manifest. No torch."""

from edgewright.core._budget import CONSTRAINTS, Breach, Budget, Limit
from edgewright.core._choice import Choice
from edgewright.core._manifest import FORMAT_VERSION, Manifest
from edgewright.core._measurement import UNITS, FigureName, Figures, Measurement
from edgewright.core._model_spec import LowBitTensor, ModelSpec, Segment, TensorSpec
from edgewright.core._operating_point import (
    EXIT_POLICIES,
    GATE_INPUTS,
    CurvePoint,
    ExitPolicy,
    ExitProfile,
    ExitRule,
    Guarantee,
    OperatingPoint,
    format_threshold,
)
from edgewright.core._preprocessing import Preprocessing, read_pixels
from edgewright.core._reasons import format_skip_reasons
from edgewright.core._run_report import LayerLatency, LayerRecord, Parity, RunReport, StageRecord
from edgewright.core._settings import Settings, Value
from edgewright.core._storage import write_atomically
from edgewright.core._units import format_count, format_percent, format_size, parse_quantity

__all__ = [
    "CONSTRAINTS",
    "EXIT_POLICIES",
    "FORMAT_VERSION",
    "GATE_INPUTS",
    "UNITS",
    "Breach",
    "Budget",
    "Choice",
    "CurvePoint",
    "ExitPolicy",
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
    "ModelSpec",
    "OperatingPoint",
    "Parity",
    "Preprocessing",
    "RunReport",
    "Segment",
    "Settings",
    "StageRecord",
    "TensorSpec",
    "Value",
    "format_count",
    "format_percent",
    "format_size",
    "format_skip_reasons",
    "format_threshold",
    "parse_quantity",
    "read_pixels",
    "write_atomically",
]
