"""Layer 4: graphs to kernels; what is fused, in which order it runs, and for which device."""
