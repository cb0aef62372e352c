"""Real servers for tests, from packages alone: PostgreSQL and NATS, on ports of their own."""
