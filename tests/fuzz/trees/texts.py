"""What can stand in the files that are read of a project: for each kind, texts that are too deep, too long, too large,
of another encoding, or of another type than a reader expects."""

from collections.abc import Callable
from random import Random

Text = Callable[[int], bytes]
"""A text of about so many parts."""


def repeated(before: str, part: str, end: str = "", after: str = "") -> Text:
    return lambda size: (before + part * size + end + after * size + "\n").encode()


PYTHON: tuple[Text, ...] = (
    repeated("x = ", "(", "1", ")"),
    repeated("x = ", "[", "", "]"),
    repeated("x = ", "{1:", "1", "}"),
    repeated("x = ", "-", "1"),
    repeated("x = ", "not ", "1"),
    repeated("x = ", "lambda: ", "1"),
    repeated("x = 1", "+1"),
    repeated("x = a", ".b"),
    repeated("x = a", "()"),
    repeated("x = a", "[0]"),
    repeated("x = ", "1 if a else ", "1"),
    repeated("x = ", "2**", "1"),
    repeated("if a: pass\n", "elif a: pass\n"),
    repeated("x = ", "f'{", "1", "}'"),
    repeated("def f(:\nx = ", "-", "1"),
    lambda size: "".join(" " * n + "if 1:\n" for n in range(min(size, 300))).encode() + b" " * 400 + b"pass\n",
    lambda size: b"x = " + b"9" * size + b"\n",
    lambda size: b"\n" * size + b"x = 1\n",
    lambda size: b" " * size + b"\n" * size + b"def test_x(): pass\n",
    lambda size: b"\\\n" * size + b"x = 1\n",
    lambda size: b"\x0c" * size + b"import os\n",
    lambda size: b"# " + b"test_" * size + b"\nimport unittest\n",
    lambda size: b"def test_" * size,
    lambda size: b"import " + b",".join(b"m%d" % n for n in range(size)) + b"\n",
    lambda size: b"import " + b"n" * size + b"\n",
    lambda size: b"x = 1\0\n" * (size // 100),
    lambda size: b"\xef\xbb\xbfimport os\r\n" * 3,
    lambda size: b"# coding: utf-7\n+AGkAbQBwAG8AcgB0 os\n",
    lambda size: b"# coding: nonsense\nimport os\n",
    lambda size: b"# coding: rot13\nvzcbeg bf\n",
    lambda size: b"\xff\xfei\0m\0p\0o\0r\0t\0 \0o\0s\0\n\0",
    lambda size: b"x = '\\ud800'\nimport caf\xe9\n",
    lambda size: "x\u202e = '\u2066'\nimport ſys\n".encode(),
    lambda size: b"'" * size,
    lambda size: b'"""' + b"x" * size,
    lambda size: b"class A: pass\n" * (size // 10),
    lambda size: b"\x00" * size,
    lambda size: b"# noqa: " + b"E501," * size + b"\n",
    lambda size: b"import os\n",
    lambda size: b"def test_x():\n    assert True\n",
)

TOML: tuple[Text, ...] = (
    repeated("x = ", "[", "", "]"),
    repeated("x = ", "{a=", "1", "}"),
    repeated("[", "a.", "a]\nx = 1"),
    repeated("", "a.", "a = 1"),
    repeated("x = ", "9"),
    repeated("x = 0x", "f"),
    repeated("x = 1e", "9"),
    repeated("x = '", "y", "'"),
    lambda size: b"".join(b"[a%d]\n" % n for n in range(size)),
    lambda size: b"[[a]]\n" * size,
    lambda size: b"[tool]\nruff = 5\nblack = 'x'\n",
    lambda size: b"tool = 5\nproject = 'x'\n",
    lambda size: b"[tool.ruff]\nformat = 3\n",
    lambda size: b"[tool.black]\nline-length = %d\n" % 10**300,
    lambda size: b"[tool.black]\nline-length = [1]\nskip-string-normalization = {}\n",
    lambda size: b"[tool.black]\nline-length = true\n",
    lambda size: b"[tool.ruff]\nextend = '/etc/passwd'\n",
    lambda size: b"[tool.ruff]\nrequired-version = '>=99'\n",
    lambda size: b"[tool.ruff]\nfix-only = true\nunsafe-fixes = true\n",
    lambda size: b"[tool.ruff.lint]\nselect = ['ALL']\n[tool.ruff.format]\n",
    lambda size: b"[project]\nrequires-python = '" + b">" * size + b"'\n",
    lambda size: b'[project]\nrequires-python = "\\u0000\\u202e\\n"\ndependencies = ["x\\u0000", 5, {}]\n',
    lambda size: b"[project]\nrequires-python = [1]\ndependencies = 'all'\n",
    lambda size: b"[project]\ndependencies = ['" + b"d" * size + b"']\n",
    lambda size: b"[project]\ndependencies = [" + b"'a'," * size + b"]\n",
    lambda size: b"\xef\xbb\xbf[project]\nrequires-python = '>=3'\n",
    lambda size: b"\xff\xfe[\0p\0",
    lambda size: b"[project\0]\n",
    lambda size: b"[tool.pytest.ini_options]\naddopts = '--rootdir=/ -p os'\n",
    lambda size: b"a = 1\na = 2\n",
)

IGNORES: tuple[Text, ...] = (
    lambda size: b"*a*a*a*a*b\n",
    lambda size: b"*a" * min(size, 400) + b"*b\n",
    lambda size: b"a" + b"**a" * 40 + b"b\n",
    lambda size: b"**/a/" * 30 + b"b\n",
    lambda size: b"/**/a/**/a/**/a/**/*b*\n",
    lambda size: b"**/" * size + b"\n",
    lambda size: b"*" * size + b"\n",
    lambda size: b"?" * size + b"*\n",
    lambda size: b"[" * size + b"\n",
    lambda size: b"[a-" * 500 + b"]\n",
    lambda size: b"[z-a]\n[]\n[!]\n[[:alpha:]\n[\\]\n",
    lambda size: b"\\" * size + b"\n",
    lambda size: b"!" * size + b"\n/\n//\n!\n\\!\n#\n",
    lambda size: b"*a*b*c\n" * (size // 4),
    lambda size: b"x" * size + b"\n",
    lambda size: b"\0\n\xff\n\xef\xbb\xbf*\r\n",
    lambda size: b"*\n!*/\n!*.py\n",
    lambda size: b"/\n..\n../*\n/etc/\n",
    lambda size: b"".join(b"*%d*\n" % n for n in range(size // 8)),
)

REQUIREMENTS: tuple[Text, ...] = (
    repeated("", " ", "x"),
    repeated("", "a-", "b"),
    repeated("", "pytest", "-cov"),
    lambda size: b"\n".join(b"p%d" % n for n in range(size)),
    lambda size: b"\xff\0\n-r /etc/passwd\n",
    lambda size: b"-" * size + b"\n" + b"_." * size,
)

HOOKS: tuple[Text, ...] = (
    lambda size: b"a: &a [x]\n" + b"b: &b [*a,*a]\n" * (size // 10),
    repeated("repos: ", "[", "", "]"),
    lambda size: b"id: black\n",
    lambda size: b"- id: ruff-format\n\0\xff",
    lambda size: b" " * size + b"id: black",
)

NOTEBOOKS: tuple[Text, ...] = (
    repeated('{"cells": ', "[", "", "]"),
    lambda size: b'{"cells": [], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
    lambda size: (
        b'{"cells": [{"cell_type": "code", "source": ["' + b"(" * size + b'"], "outputs": [], "metadata": {}}]}'
    ),
    lambda size: b"{" * size,
)

FILES: dict[str, tuple[Text, ...]] = {
    "a.py": PYTHON,
    "test_x.py": PYTHON,
    "conftest.py": PYTHON,
    "stub.pyi": PYTHON,
    "setup.py": PYTHON,
    "pyproject.toml": TOML,
    "ruff.toml": TOML,
    ".ruff.toml": TOML,
    ".gitignore": IGNORES,
    "requirements.txt": REQUIREMENTS,
    "requirements-dev.txt": REQUIREMENTS,
    "tox.ini": REQUIREMENTS,
    "setup.cfg": REQUIREMENTS,
    ".pre-commit-config.yaml": HOOKS,
    "book.ipynb": NOTEBOOKS,
}


def any_text(random: Random, name: str, sizes: tuple[int, ...]) -> bytes:
    return random.choice(FILES[name])(random.choice(sizes))
