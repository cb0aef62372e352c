"""The real runtime on a simulated loop: a failing seed is the reproduction."""
