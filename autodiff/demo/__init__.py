"""The demonstration that `python -m autodiff.demo` runs: users' programs and their figures."""
