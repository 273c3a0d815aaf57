"""Layer 0: what every other layer may use and that knows nothing of graphs."""
