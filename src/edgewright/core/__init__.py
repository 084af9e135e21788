"""The vocabulary of all layers: units, budget, measurements, manifest. No torch."""

from edgewright.core._audio_preprocessing import AudioPreprocessing
from edgewright.core._budget import CONSTRAINTS, Bound, Breach, Budget, Limit, ResolvedLimit
from edgewright.core._choice import Choice
from edgewright.core._decoding import (
    Answers,
    Boxes,
    ClassMask,
    ClassProbabilities,
    DecodeStep,
    NamedStep,
    Numbers,
    Step,
    UnitVector,
)
from edgewright.core._manifest import FORMAT_VERSION, Manifest
from edgewright.core._measurement import (
    ACCURACY,
    COSTS,
    CostName,
    Figures,
    Measurement,
    MetricSpec,
    format_metric,
    known_figure,
)
from edgewright.core._model_spec import LowBitTensor, ModelSpec, Segment, TensorSpec
from edgewright.core._nearest import suggest
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
from edgewright.core._run_report import (
    LayerLatency,
    LayerRecord,
    OutputParity,
    Parity,
    RouteProfile,
    RunReport,
    StageRecord,
)
from edgewright.core._search_record import CostPrediction, SearchRecord, TrialRecord
from edgewright.core._select_boxes import SelectedBoxes, box_overlaps, select_boxes
from edgewright.core._settings import Positional, Settings, Value
from edgewright.core._size_range import (
    Size,
    SizeRange,
    check_equal_sizes,
    find_unequal_sizes,
    find_wrong_size,
    format_shape,
)
from edgewright.core._storage import write_atomically
from edgewright.core._units import (
    format_cost,
    format_count,
    format_percent,
    format_significant,
    format_size,
    parse_quantity,
)
from edgewright.core._wiring import Fork, Wiring

__all__ = [
    "ACCURACY",
    "CONSTRAINTS",
    "COSTS",
    "EXIT_POLICIES",
    "FORMAT_VERSION",
    "GATE_INPUTS",
    "Answers",
    "AudioPreprocessing",
    "Bound",
    "Boxes",
    "Breach",
    "Budget",
    "Choice",
    "ClassMask",
    "ClassProbabilities",
    "CostName",
    "CostPrediction",
    "CurvePoint",
    "DecodeStep",
    "ExitPolicy",
    "ExitProfile",
    "ExitRule",
    "Figures",
    "Fork",
    "Guarantee",
    "LayerLatency",
    "LayerRecord",
    "Limit",
    "LowBitTensor",
    "Manifest",
    "Measurement",
    "MetricSpec",
    "ModelSpec",
    "NamedStep",
    "Numbers",
    "OperatingPoint",
    "OutputParity",
    "Parity",
    "Positional",
    "Preprocessing",
    "ResolvedLimit",
    "RouteProfile",
    "RunReport",
    "SearchRecord",
    "Segment",
    "SelectedBoxes",
    "Settings",
    "Size",
    "SizeRange",
    "StageRecord",
    "Step",
    "TensorSpec",
    "TrialRecord",
    "UnitVector",
    "Value",
    "Wiring",
    "box_overlaps",
    "check_equal_sizes",
    "find_unequal_sizes",
    "find_wrong_size",
    "format_cost",
    "format_count",
    "format_metric",
    "format_percent",
    "format_shape",
    "format_significant",
    "format_size",
    "format_skip_reasons",
    "format_threshold",
    "known_figure",
    "parse_quantity",
    "read_pixels",
    "select_boxes",
    "suggest",
    "write_atomically",
]
