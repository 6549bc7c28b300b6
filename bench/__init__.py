"""How fast the hot path is, beside the same job without Faust: `python -m bench`."""
