"""Clients of server-sent events as others publish them, each in the few lines that its users write."""
