"""Decoding: from a model's outputs to classes, masks, answers, boxes, vectors and numbers."""

from edgewright.runtime.decoding._answers import Answer, AnswerSet, decode_answers
from edgewright.runtime.decoding._boxes import Box, Detections, decode_boxes
from edgewright.runtime.decoding._classes import ClassPrediction, ClassRanking, decode_classes
from edgewright.runtime.decoding._decoder import Decoded, Decoder, resize_boxes
from edgewright.runtime.decoding._mask import Mask, decode_masks
from edgewright.runtime.decoding._numbers import Quantity, decode_numbers
from edgewright.runtime.decoding._vectors import Vector, decode_vectors

__all__ = [
    "Answer",
    "AnswerSet",
    "Box",
    "ClassPrediction",
    "ClassRanking",
    "Decoded",
    "Decoder",
    "Detections",
    "Mask",
    "Quantity",
    "Vector",
    "decode_answers",
    "decode_boxes",
    "decode_classes",
    "decode_masks",
    "decode_numbers",
    "decode_vectors",
    "resize_boxes",
]
