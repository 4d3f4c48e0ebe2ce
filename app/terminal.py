"""What a terminal may be shown of names, messages and errors, which come from agents and projects: nothing that moves
the cursor, changes the title, or turns round what follows."""

_MOVING = (*range(32), *range(127, 160), 0x2028, 0x2029)
_TURNING = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF, *range(0xE0000, 0xE0080))
_SURROGATES = range(0xD800, 0xE000)
"""Which no terminal's encoding can write."""
_LINE = dict.fromkeys(_MOVING, " ") | dict.fromkeys((*_TURNING, *_SURROGATES), "\ufffd")
_LINES = {code: shown for code, shown in _LINE.items() if chr(code) not in "\n\t"}
_ESCAPED = {code: f"\\u{code:04x}" if code < 0x10000 else "\ufffd" for code in _LINES}


def clean(value: object) -> str:
    """One line without control characters; as long as before, so that styles stay where they are."""
    return str(value).translate(_LINE)


def clean_lines(value: object) -> str:
    """The same in several lines, tabs included."""
    return str(value).translate(_LINES)


def escaped(json: str) -> str:
    """JSON of the same meaning."""
    return json.translate(_ESCAPED)
