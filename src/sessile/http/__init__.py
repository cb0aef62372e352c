"""The HTTP surface: parses, authenticates, asks the runtime, encodes. It decides nothing."""
