"""Layer 3: transformations from graph to graph, one per file."""
