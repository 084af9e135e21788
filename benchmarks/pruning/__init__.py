"""What pruning saves and costs, against Torch-Pruning where it has the same."""
