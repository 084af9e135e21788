"""Every pass on every kind of job: what works, and why the rest is refused."""
