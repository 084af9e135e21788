"""Benchmarks, by question; README.md lists them with their commands and results."""
