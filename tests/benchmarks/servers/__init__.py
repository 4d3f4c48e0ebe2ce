"""Servers of one event stream that ours is measured beside, each with the way by which events enter it."""
