"""What a whole run of `edgewright.compress` reaches."""
