"""Measures Sessile beside floors that do the same work with less: `python -m bench --help`."""
