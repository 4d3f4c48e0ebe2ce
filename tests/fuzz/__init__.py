"""Random graphs, each run as plain LangGraph and step by step through the engine: both must end alike.

`generating` draws a `description`, pure data that prints as Python; `building` makes a graph of it, whose nodes
are those of `nodes`; `comparing` runs it both ways.
"""
