"""Commands as pages show them, word by word, and what of them is not there."""

import importlib.util
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import typer

from app.cli.main import app
from tests.readmes import ROOT, Block

PROGRAMS = ".venv/bin/"
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
PLACEHOLDER = re.compile(r"[A-Z]{2,}|…")
"""What a reader replaces: SESSION, SOME_PROJECT."""
CAPITALS = re.compile(r"(README|CONTRIBUTING|LICENSE)")
IN_DIRECTORY = re.compile(r"[\w.-]+(/[\w.*-]+)+/?")
WITH_SUFFIX = re.compile(r"[\w./*-]*\w\.(py|sql|md|toml|yml|mako|example)")
DOTTED = re.compile(r"(?P<name>(app|workers|tests|migrations)(\.\w+)+)(\(.*)?")
OUTPUT = ("-o", "--output", "--file")


class Command(NamedTuple):
    """`words` without assignments in front and redirections behind; `writes` are the files that it makes."""

    line: int
    words: list[str]
    writes: list[str]


def commands(block: Block) -> Iterator[Command]:
    """Those of a block, also of lines that go on after a backslash or within quotes."""
    text, first = "", block.line
    for number, line in enumerate(block.text.splitlines(), block.line):
        first = first if text else number
        text += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        try:
            words = words_of(text)
        except ValueError:  # a quotation that goes on
            text += "\n"
            continue
        yield from _split(words, first)
        text = ""
    if text:
        raise AssertionError(f"line {first}: a quotation is not closed")


def words_of(text: str) -> list[str]:
    """Operators are words of their own. Raises ValueError for a quotation that is not closed."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def _split(words: list[str], line: int) -> Iterator[Command]:
    current, writes = list[str](), list[str]()
    rest = iter([*words, ";"])
    for word in rest:
        if word in {">", ">>"}:
            writes.append(next(rest))
        elif set(word) <= set("();<>|&"):
            if current:
                writes += [current[n + 1] for n, word in enumerate(current[:-1]) if word in OUTPUT]
                writes += [word.partition("=")[2] for word in current if word.partition("=")[0] in OUTPUT]
                yield Command(line, current, writes)
            current, writes = [], []
        elif current or not (ASSIGNMENT.fullmatch(word) or word == "export"):
            current.append(word)


def faults_of(words: list[str], directory: Path, made: Collection[str] = ()) -> Iterator[str]:
    """What of a command is not there. `made` are the files that the page's own commands make."""
    program, *arguments = words
    name = program.removeprefix(PROGRAMS)
    if name == "stellwerk":
        yield from _faults_of_stellwerk(arguments)
    elif program.startswith(PROGRAMS):
        if not Path(sys.executable).with_name(name).exists():
            yield f"there is no program {name} in .venv"
    elif program.startswith("scripts/"):
        yield from _faults_of_script(program, arguments)
    for word in words:
        value = word.partition("=")[2] if word.startswith("--") else word
        if value not in made and (fault := fault_of_name(value, directory)):
            yield fault


def _faults_of_stellwerk(arguments: list[str]) -> Iterator[str]:
    command: Any = typer.main.get_command(app)
    chain = ["stellwerk"]
    while (inner := getattr(command, "commands", None)) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        if PLACEHOLDER.search(name):
            return
        if name not in inner:
            yield f"`{' '.join(chain)}` has no command {name}; it has {', '.join(inner)}"
            return
        command = inner[name]
        chain.append(name)
    yield from _unknown_options(" ".join(chain), command, arguments)


def _unknown_options(called: str, command: Any, arguments: list[str]) -> Iterator[str]:
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in arguments:
        option = word.partition("=")[0]
        if option.startswith("-") and option not in {*known, "--help"}:
            yield f"`{called}` has no option {option}; it has {', '.join(sorted(known))}"


def _faults_of_script(program: str, arguments: list[str]) -> Iterator[str]:
    script = program.removeprefix("scripts/")
    if script == "run":
        yield from _faults_of_stellwerk(["run", *arguments])
    elif found := _scripts().get(script):
        main, names = found
        called = typer.Typer()
        called.command()(main)
        yield from _unknown_options(program, typer.main.get_command(called), arguments)
        for option, value in pairwise(arguments):
            if option == "--only" and value not in names and not PLACEHOLDER.search(value):
                yield f"{program} has no {value}; it has {', '.join(names)}"


@cache
def _scripts() -> dict[str, tuple[Callable[..., None], Collection[str]]]:
    """The scripts whose options are a function's, and what their `--only` takes."""
    # Imported here: they take a second, and only pages that name them need it.
    from tests.acceptance.faults.__main__ import main as faults
    from tests.acceptance.faults.crowds import main as scale
    from tests.acceptance.faults.faults import FAULTS
    from tests.acceptance.faults.scenes import SCENES
    from tests.benchmarks.__main__ import BENCHES
    from tests.benchmarks.__main__ import main as bench

    return {"faults": (faults, FAULTS), "scale": (scale, SCENES), "bench": (bench, BENCHES)}


def fault_of_name(word: str, directory: Path) -> str | None:
    """What is wrong with a word that names a file, a test or a module; None also where it names none."""
    if dotted := DOTTED.fullmatch(word):
        return None if _is_importable(dotted["name"]) else f"there is no {dotted['name']}"
    path, _, test = word.partition("::")
    if PLACEHOLDER.search(CAPITALS.sub("", path)) or path.startswith((PROGRAMS, "/")):
        return None
    in_directory = IN_DIRECTORY.fullmatch(path) and any(
        (top / path.split("/")[0]).exists() for top in (ROOT, directory)
    )
    if not in_directory and not WITH_SUFFIX.fullmatch(path):
        return None
    found = [file for top in (ROOT, directory) for file in top.glob(path)]
    if not found and ("/" in path or path not in _file_names()):
        return f"there is no file {path}"
    if test and not re.search(rf"^(async )?def {re.escape(test)}\(", found[0].read_text(), re.MULTILINE):
        return f"{path} has no test {test}"
    return None


@cache
def known_words() -> frozenset[str]:
    """All words of the sources, among them whatever has a name there."""
    texts = (file.read_text(errors="replace") for file in _files() if file.suffix in {".py", ".sql", ".js", ""})
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


@cache
def _file_names() -> frozenset[str]:
    """Of all files: a page may name one without its directory where it has just spoken of that."""
    return frozenset(file.name for file in _files())


def _files() -> Iterator[Path]:
    for directory in ("app", "workers", "migrations", "tests", "scripts"):
        for file in (ROOT / directory).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file


def _is_importable(name: str) -> bool:
    """A module, or what a module holds."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        module = ".".join(parts[:count])
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            continue
        if spec is not None:
            found: Any = importlib.import_module(module)
            for part in parts[count:]:
                if not hasattr(found, part):
                    return False
                found = getattr(found, part)
            return True
    return False
