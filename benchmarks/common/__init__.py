"""What several benchmarks share: rows of results, command lines, paths, accuracies."""
