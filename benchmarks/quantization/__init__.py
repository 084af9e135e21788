"""What quantization saves and costs, and whether runtimes agree on its results."""
