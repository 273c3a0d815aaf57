"""Layer 1: array types, graphs, primitives, the tracer and the reference evaluator."""
