"""Sound: from training to a file."""
