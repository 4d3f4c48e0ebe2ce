"""What is wrong on a page: what it shows and names, and is not there, each with its line."""

import ast
import importlib
import json
import os
import re
from collections.abc import Iterator
from types import ModuleType

import yaml

from app.config import Settings
from tests.commands import PROGRAMS, commands, fault_of_name, faults_of, known_words, words_of
from tests.readmes import ROOT, Block, Found, Page, slug

VARIABLE = re.compile(r"STELLWERK_[A-Z0-9_]*…?")
IDENTIFIER = re.compile(r"@?(?P<name>(?!STELLWERK_)(?=\w*(_|[a-z][A-Z]))[A-Za-z]\w+)(\(.*\))?")
FOREIGN = {"NodeTimeoutError"}
"""Names of libraries that our sources do not use."""
GIVEN_TO_CHILDREN = {"STELLWERK_URL", "STELLWERK_SESSION", "STELLWERK_STEP_TOKEN"}


def wrong_python(page: Page) -> Iterator[Found]:
    for block in page.blocks("python"):
        try:
            compile(block.text, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            yield Found(block.line - 1 + (error.lineno or 1), f"{error.msg}: {(error.text or '').strip()}")
        else:
            yield from unresolved(block)


def unresolved(block: Block) -> Iterator[Found]:
    for node in ast.walk(ast.parse(block.text)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        line = block.line - 1 + node.lineno
        names = [alias.name for alias in node.names]
        for module in names if isinstance(node, ast.Import) else [node.module or ""]:
            try:
                found = importlib.import_module(module)
            except ImportError as error:
                yield Found(line, f"{module} cannot be imported: {error}")
            else:
                if isinstance(node, ast.ImportFrom):
                    yield from (Found(line, f"{module} has no {name}") for name in names if not holds(found, name))


def holds(module: ModuleType, name: str) -> bool:
    if hasattr(module, name):
        return True
    try:
        importlib.import_module(f"{module.__name__}.{name}")
    except ImportError:
        return False
    return True


def wrong_commands(page: Page) -> Iterator[Found]:
    made = {block.file for block in page.blocks("python") if block.file}
    for block in page.blocks("sh"):
        for command in commands(block):
            made.update(command.writes)
            for fault in faults_of(command.words, page.file.parent, made):
                yield Found(command.line, fault)


def wrong_names(page: Page) -> Iterator[Found]:
    for line, span in page.spans:
        if span.startswith(("stellwerk ", "scripts/", PROGRAMS)):
            yield from (Found(line, fault) for fault in faults_of(words_of(span), page.file.parent))
        elif fault := fault_of_name(span, page.file.parent):
            yield Found(line, fault)
        elif (found := IDENTIFIER.fullmatch(span)) and found["name"] not in known_words() | FOREIGN:
            yield Found(line, f"no source has {found['name']}")


def wrong_variables(page: Page) -> Iterator[Found]:
    """Also of names of which only the beginning stands there, as `STELLWERK_CIRCUIT_…`."""
    known = GIVEN_TO_CHILDREN | of_compose() | {f"STELLWERK_{name.upper()}" for name in Settings.model_fields}
    for line, text in enumerate(page.lines, 1):
        for name in VARIABLE.findall(text):
            beginning = name.rstrip("…")
            is_whole = name == beginning != "STELLWERK_"
            if not (name in known if is_whole else any(each.startswith(beginning) for each in known)):
                yield Found(line, f"{name} is no setting (app/config.py), and no step gives it to its programs")


def of_compose() -> set[str]:
    """Variables that docker-compose.yml reads, which are no settings of ours."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return set(re.findall(r"\$\{(STELLWERK_\w+)", json.dumps(services)))


def wrong_links(page: Page) -> Iterator[Found]:
    for line, target in page.links:
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = Page(os.path.relpath(page.file.parent / path, page.root)) if path else page
        if not linked.file.exists():
            yield Found(line, f"the link leads to {path}, which does not exist")
        elif anchor and anchor not in {slug(heading.text) for heading in linked.headings}:
            yield Found(line, f"the link leads to {target}, and there is no such heading")


def wrong_json(page: Page) -> Iterator[Found]:
    for block in page.blocks("json"):
        try:
            json.loads(block.text)
        except json.JSONDecodeError as error:
            yield Found(block.line - 1 + error.lineno, error.msg)
