"""The rules: pure functions on frozen values; no await, clock, chance or I/O."""
