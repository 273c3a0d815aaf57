"""Layer 1: array types, graphs, primitives, the tracer that records them and the evaluator that runs them."""
