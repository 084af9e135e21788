"""Detection: from training to a file."""
