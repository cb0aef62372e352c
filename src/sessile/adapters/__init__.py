"""One outside system a module; they do not know each other, and only wiring names them."""
