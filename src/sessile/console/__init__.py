"""The console: a page at `/` that is a client of the public API like any other."""
