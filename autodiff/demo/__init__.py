"""The demonstration that `python -m autodiff.demo` runs: a user's programs, beside their figures."""
