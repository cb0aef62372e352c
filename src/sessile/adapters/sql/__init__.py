"""What the two databases have in common: rows, and a transaction's rules without its statements."""
