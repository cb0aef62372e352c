"""What the runtime needs of the outside: protocols whose docstrings are promises."""
