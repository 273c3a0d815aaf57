"""Layer 5: graphs to program text; pure functions that touch no device."""
