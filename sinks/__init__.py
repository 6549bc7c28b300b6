"""Where things go: one contract for time-series stores, and its implementations."""
