"""Benchmarks of the search for the best file under a budget."""
