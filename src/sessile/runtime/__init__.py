"""What happens over time. Knows ports, never an adapter or a wire format."""
