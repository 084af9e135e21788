"""Quantized CIFAR-10 ResNets against those of other tools."""
