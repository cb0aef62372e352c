"""Pusher Channels, protocol 7: existing front ends and server libraries speak to Sessile as is."""
