"""What looks like a key, whoever made it: well-known shapes, found in one pass over a text.

`re` holds the interpreter's lock, and a pattern may begin anywhere; so what each shape begins with is looked for
first, and nothing is looked at twice, also in a text that is made to be slow.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

HIDDEN = "[redacted]"
Span = tuple[int, int]


class Look(NamedTuple):
    """What stands at a head: what is to be hidden, if anything, and where to go on."""

    hidden: Span | None
    next_at: int


class Shape(NamedTuple):
    heads: tuple[str, ...]
    look: Callable[[str, int], Look]


def _pattern(pattern: str) -> Callable[[str, int], Look]:
    """Hides the pattern's group, or all of it."""
    compiled = re.compile(pattern, re.VERBOSE)

    def look(text: str, at: int) -> Look:
        found = compiled.match(text, at)
        if found is None:
            return Look(None, at + 1)
        return Look(found.span((compiled.groups and found.lastindex) or 0), found.end())

    return look


_RUN = re.compile(r"[\w-]*")
_WEB_TOKEN = re.compile(r"\beyJ[\w-]{10,}+\.[\w-]{10,}+\.[\w-]{10,}+")


def _web_token(text: str, at: int) -> Look:
    """What begins later in the same run of letters ends as this one does."""
    if found := _WEB_TOKEN.match(text, at):
        return Look(found.span(), found.end())
    run = _RUN.match(text, at)
    return Look(None, run.end() if run else at + 1)


_BLOCK_BEGINS = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----")
_BLOCK_ENDS = re.compile(r"-----END [A-Z ]{0,40}PRIVATE KEY-----")


def _block(text: str, at: int) -> Look:
    begin = _BLOCK_BEGINS.match(text, at)
    if begin is None:
        return Look(None, at + 1)
    end = _BLOCK_ENDS.search(text, begin.end())
    return Look((at, end.end()), end.end()) if end else Look(None, len(text))  # nor does one that begins later end


SHAPES = (
    # OpenAI, Anthropic and many that copy them
    Shape(("sk-", "pk-", "rk-"), _pattern(r"\b[spr]k-[A-Za-z0-9_-]{16,}+")),
    # our own keys, tickets, and tokens of steps
    Shape(("stw_",), _pattern(r"\bstw_[0-9A-Za-z]{38}\b")),
    Shape(("stwt_",), _pattern(r"\bstwt_[\w-]{90,}+")),
    Shape(("step.",), _pattern(r"\bstep\.[0-9a-f-]{36}\.\d{1,10}\.\d{1,10}\.([0-9a-f-]{36})")),
    Shape(("pplx-",), _pattern(r"\bpplx-[A-Za-z0-9]{16,}+")),
    Shape(("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), _pattern(r"\bgh[pousr]_[A-Za-z0-9]{20,}+")),
    Shape(("github_pat_",), _pattern(r"\bgithub_pat_\w{20,}+")),
    Shape(("glpat-",), _pattern(r"\bglpat-[\w-]{20,}+")),
    Shape(("AKIA", "ASIA"), _pattern(r"\bA[KS]IA[A-Z0-9]{16}\b")),
    Shape(("xox",), _pattern(r"\bxox[abprs]-[A-Za-z0-9-]{10,}+")),
    Shape(("AIza",), _pattern(r"\bAIza[\w-]{35}")),
    Shape(("eyJ",), _web_token),
    Shape(("Bearer ", "bearer "), _pattern(r"[Bb]earer\ ([A-Za-z0-9._~+/-]{16,}+=*)")),
    Shape(("Basic ", "basic "), _pattern(r"[Bb]asic\ ((?=[A-Za-z]*+[0-9+/=])[A-Za-z0-9+/]{12,}+=*)")),
    Shape(("-----BEGIN ",), _block),
    # user:password@host, or a token in that place; a user alone only where it cannot be one
    Shape(
        ("://",),
        _pattern(r"""(?:(?<=http)|(?<=https))://([^\s"'<>/]+)@ | ://[^\s"'<>/:@]*+:([^\s"'<>/]+)@"""),
    ),
)


def key_spans(text: str) -> Iterator[Span]:
    """Where something stands that looks like a key; shape by shape, so not in order."""
    for shape in SHAPES:
        for head in shape.heads:
            at = text.find(head)
            while at >= 0:
                hidden, next_at = shape.look(text, at)
                if hidden:
                    yield hidden
                at = text.find(head, next_at)


_PARTS = (b"k-", b"stw", b"step.", b"plx-", b"pat-", b"IA", b"xox", b"AIza", b"eyJ", b"earer ", b"asic ", b"BEGIN ")
"""What heads have in common; few texts hold one of these."""
_GITHUB = (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_")


def may_hold_key(data: bytes) -> bool:
    """The quick look, at UTF-8 or at JSON: False means that no shape is in it."""
    for part in _PARTS:
        if part in data:
            return True
    if b"gh" in data and any(head in data for head in _GITHUB):
        return True
    return b"://" in data and b"@" in data


def hidden(text: str, spans: Sequence[Span]) -> str:
    """The text with HIDDEN in the place of spans, which may overlap; `spans` in the order of their beginnings."""
    parts, at = [], 0
    for start, end in spans:
        if start >= at:
            parts += [text[at:start], HIDDEN]
        at = max(at, end)
    return "".join([*parts, text[at:]])


def without_keys(text: str) -> str:
    """For a process that knows no secret: hides what looks like a key."""
    return hidden(text, sorted(key_spans(text)))


# Rather too much than too little: a password may hold any character, also those that an address would have encoded.
PASSWORDS = re.compile(
    r"""
      (?<=http://) .*@ | (?<=https://) .*@                          # of user:password@host, or a token in that place
    | (?<=://) (?P<user>[^:]*:) .*@
    | (?P<name>\b\w*(?:password|passwd|secret|token|key)\s*=\s*)    # in a query, or as libpq writes it
      (?:'(?:[^'\\]|\\.)*' | [^&\s]*)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def without_passwords(text: str) -> str:
    """Hides the passwords in an address, or in a text that holds one."""
    return PASSWORDS.sub(_hidden_password, text)


def _hidden_password(found: re.Match[str]) -> str:
    if found["name"]:
        return f"{found['name']}{HIDDEN}"
    return f"{found['user'] or ''}{HIDDEN}@"
