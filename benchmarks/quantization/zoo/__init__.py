"""Quantizing models of many kinds, compared with ONNX Runtime."""
