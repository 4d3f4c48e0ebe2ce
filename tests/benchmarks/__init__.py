"""`scripts/bench`: every number is a ratio against a limit or a peer that is measured in the same run.

One module for each part of the path. A bench is an async function that takes the `House` (servers of its own) and
yields figures; `BENCHES` in __main__ lists them. Programs in peer/ run in environments of their own.
"""
