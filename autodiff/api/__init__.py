"""Layer 7: the functions users call."""
