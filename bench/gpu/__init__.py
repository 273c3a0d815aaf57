"""A card's acceptance run: `python -m bench.gpu --help`."""
