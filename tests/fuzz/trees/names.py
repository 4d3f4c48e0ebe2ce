"""Names that files can have, though few do."""

from random import Random

NAMES: tuple[bytes, ...] = (
    b"new\nline.py",
    b"\n",
    b"-rf",
    b"--config=x.py",
    b"--fix",
    b"@files",
    b"-",
    b"~",
    b"*",
    b"?.py",
    b"[a].py",
    b"$(touch pwned).py",
    b"`id`.py",
    b"a;b|c&d.py",
    b"{0}{name}.py",
    b"[bold red]x[\\].py",
    b"\x1b[2J\x1b]0;title\x07.py",
    b"bell\x07.py",
    b"tab\t.py",
    b"cr\r.py",
    b"back\\slash.py",
    b"quo\"te's.py",
    b" lead.py",
    b"trail.py ",
    b"dot.",
    b"...",
    b"CON.py",
    b"a.py:stream",
    b"git~1",
    b".GIT",
    b".Git",
    b".git ",
    b".gi\xe2\x80\x8ct",
    b".gitmodules",
    b".gitattributes",
    b"\xff\xfe.py",
    b"caf\xe9.py",
    b"half\xed\xa0\x80.py",
    "rtl\u202egnp.py".encode(),
    "iso\u2066late\u2069.py".encode(),
    "zero\u200bwidth\ufeff.py".encode(),
    "c1\x9b31m.py".encode(),
    "line\u2028sep.py".encode(),
    "nfc\u00e9.py".encode(),
    "nfd e\u0301.py".encode(),
    "😀👨‍👩‍👧.py".encode(),
    "\U000e0041tag.py".encode(),
    "日本語.py".encode(),
    "ſt.py".encode(),
    b"x" * 251 + b".py",
    "ü".encode() * 126 + b".py",
    b"a" * 254,
    b"test_" + b"(" * 100 + b".py",
    b"__init__.py",
    b"conftest.py",
    b"0",
    b"import.py",
    b"setup.py",
)


def any_name(random: Random) -> bytes:
    if random.random() < 0.8:
        return random.choice(NAMES)
    length = random.choice([1, 2, 8, 40, 200])
    name = bytes(random.choice(b"\x01\n -ab.*\\\"'[]{}()$\xff\xc3\xa9\xe2\x80\xae") for _ in range(length))
    return name if name not in {b".", b".."} else b"..."
