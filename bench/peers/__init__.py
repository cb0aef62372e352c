"""The same work as `bench.http` for other session servers, each in its own environment."""
