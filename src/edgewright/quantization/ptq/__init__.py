"""Post-training methods that improve a quantized program without training."""

from edgewright.quantization.ptq._bias_correction import add_biases, correct_bias
from edgewright.quantization.ptq._equalize import equalize
from edgewright.quantization.ptq._rounding import learn_rounding

__all__ = [
    "add_biases",
    "correct_bias",
    "equalize",
    "learn_rounding",
]
