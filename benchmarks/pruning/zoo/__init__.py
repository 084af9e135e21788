"""Pruning half of the channels of many published architectures."""
