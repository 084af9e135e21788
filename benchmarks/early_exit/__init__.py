"""What early exits save, cost and notice."""
