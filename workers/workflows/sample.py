"""A small broken project to repair, for a first look at Stellwerk and for its tests."""

from pathlib import Path
from textwrap import dedent

FILES = {
    "pyproject.toml": """
        [project]
        name = "till"
        version = "1.0"
        requires-python = ">=3.11"

        [tool.ruff.lint]
        select = ["E", "F", "I", "UP", "B", "SIM"]

        [tool.ruff.format]

        [tool.pytest.ini_options]
        testpaths = ["tests"]
    """,
    "README.md": """
        # till

        Adds up a receipt. It works, but nobody has tidied it for years.
    """,
    "till/__init__.py": """
        from till.receipt import Receipt
        from till.money import parse_cents
    """,
    "till/money.py": """
        import os, sys
        import re
        from typing import Optional, Dict

        RATES: Dict[str, float] = {'EUR': 1.0, "USD": 1.25}

        def parse_cents(text: str) -> Optional[int]:
            match = re.fullmatch(r"(\\d+)\\.(\\d\\d)", text)
            if match == None:
                return None
            return int(match.group(1))*100+int(match.group(2))

        def convert(cents, currency):
            try:
                rate = RATES[currency]
            except:
                rate = 1.0
            return round(cents*rate)
    """,
    "till/receipt.py": """
        from till.money import parse_cents
        import json

        class Receipt(object):
            def __init__(self, lines = []):
                self.lines = list(lines)

            def add(self, name, price):
                self.lines.append((name, parse_cents(price)))

            def total(self):
                unused = len(self.lines)
                return sum([cents for name, cents in self.lines])

            def text(self):
                return "total: {}".format(self.total())
    """,
    "tests/test_till.py": """
        import till
        import pytest
        from till.money import convert, parse_cents

        def test_total():
            receipt = till.Receipt()
            receipt.add("tea", "2.50")
            receipt.add("cake", "3.25")
            assert receipt.total() == 575
            assert receipt.text() == "total: 575"

        def test_the_package_exports_parse_cents():
            assert till.parse_cents("1.00") == 100

        @pytest.mark.parametrize("text", ["", "1", "1.5"])
        def test_what_is_no_price(text):
            assert parse_cents(text) == None

        def test_unknown_currency_counts_as_ours():
            assert convert(100, "XYZ") == 100
    """,
}


def write_sample(directory: Path) -> None:
    """Writes the sample into `directory`, which may exist but should hold nothing of that name."""
    for name, content in FILES.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(content).lstrip("\n"), encoding="utf-8")
