"""What reads a project's content. It runs in a process of its own (`child.py`), which has limits of time, memory and
CPU, and starts fast: so nothing in here but `process.py`, the worker's side, imports more than the standard library
and pathspec."""
