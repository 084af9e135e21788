"""What loading and calling a bundle costs."""
