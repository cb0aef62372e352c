"""`python -m sessile`."""

from sessile.cli import main

main()
