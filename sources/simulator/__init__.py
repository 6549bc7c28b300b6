"""A simulated Hạ Long: a pure function of seed and start, and the ground truth of what happened in it."""
