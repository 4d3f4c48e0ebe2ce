"""One file in which a parser hangs or dies costs no other one."""

import json
import os
import sys
from pathlib import Path

from workers.children.guarded import run_guarded

ROOT = Path(__file__).parents[2]
CODE = """
import json, os, sys
sys.path.append(sys.argv[1])
from workers.reading.forked import each

def look(item):
    match item:
        case "spins":
            while True: pass
        case "dies":
            os.abort()
        case "raises":
            raise KeyError(item)
        case "grows":
            try:
                return len(bytes(2**40))
            except MemoryError:
                return "too large"
    return item.upper()

print(json.dumps(list(each(json.loads(sys.argv[2]), look, seconds=0.2, altogether=float(sys.argv[3])))))
"""


async def looked_at(items: list[str], *, altogether: float = 60.0) -> list[list[str]]:
    command = [sys.executable, "-I", "-S", "-c", CODE, str(ROOT), json.dumps(items), str(altogether)]
    done = await run_guarded(command, cwd=ROOT, env={"PATH": os.environ["PATH"]}, rlimits={"RLIMIT_CORE": 0})
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


async def test_each_other_item_is_looked_at() -> None:
    assert await looked_at(["a", "spins", "b", "dies", "raises", "grows", "c", "spins"]) == [
        ["a", "A"],
        ["spins", "it takes longer than 0.2 s to read"],
        ["b", "B"],
        ["dies", "it cannot be read: the parser fails on it"],
        ["raises", "it cannot be read: the parser fails on it"],
        ["grows", "too large"],
        ["c", "C"],
        ["spins", "it takes longer than 0.2 s to read"],
    ]


async def test_after_many_deaths_it_ends() -> None:
    found = await looked_at(["dies"] * 30)
    assert len(found) == 30
    assert [said for _, said in found[21:]] == ["not read after 21 others that could not be"] * 9
    assert await looked_at([]) == []


async def test_after_its_time_it_looks_at_nothing_more() -> None:
    found = await looked_at(["a", "b", "c"], altogether=0.0)
    assert found == [[item, "not read: there was no time left"] for item in "abc"]
