"""The kinds of msgpack extensions: how a value is written that msgpack itself would not keep exactly.

The log holds them for ever: new ones are added, none changes its meaning.
"""

from typing import Final

from langgraph.types import Send

TEXT: Final = 1
"""Text with lone surrogates."""
NUMBER: Final = 2
"""A whole number of more than 64 bits, as hexadecimal digits."""
TUPLE: Final = 3
PAIRS: Final = 4
"""A dict with other keys than text, as a list of pairs."""
COLLECTION: Final = 5
"""A container of exactly one of these types: [its name, what it holds]."""
OBJECT: Final = 6
"""A value of fields: [name of its class, fields]."""
LEAF: Final = 7
"""A single value as LangGraph's serializer writes it."""
BASED: Final = 8
"""[name of its class, or None for the base itself, [name of the base, arguments, attributes]]."""
MEMBER: Final = 9
"""A member of an enum: [name of the enum, name of the member]."""
ARRAY: Final = 10
"""What numpy holds: [dtype, shape, order, bytes]."""
DEEP: Final = 11
"""A value that is written by itself, since msgpack's writer takes a limited depth at once."""
SECRET: Final = 12
"""What holds a known secret, by the secret's name: see sealed."""

SEND = (Send.__module__, Send.__qualname__)
