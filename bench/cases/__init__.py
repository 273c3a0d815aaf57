"""The cases: every file here that defines `CASE` is one, found by its file name."""
