"""app/gateway/README.md, the page for people who write clients: its clients and its tables."""

import re

from tests.readmes import CLIENTS, Block, Page

GUIDE = Page(CLIENTS)

_CLIENT = re.compile(r"(#|//) .*\bfollow\.\w+ SESSION")


def is_client(block: Block) -> bool:
    return bool(_CLIENT.match(block.text))


def clients() -> dict[str, str]:
    """By their languages."""
    return {block.language: block.text for block in GUIDE.blocks() if is_client(block)}


def table(title: str) -> list[list[str]]:
    """The cells, row by row, of the first table whose first column has this title."""
    lines = [line for _, line in GUIDE.prose]
    begin = next(number for number, line in enumerate(lines) if line.startswith(f"| {title} |"))
    rows = lines[begin + 2 : lines.index("", begin)]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
