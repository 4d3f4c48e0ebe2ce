"""The summary of a session, in words that are true whatever happened."""

from workers.agents.state import RepairState, SuiteResult
from workers.tools.outcome import Counts

MAX_NAMED = 5


def summarise(state: RepairState) -> str:
    """Any agent may have been left out, where a model decides who works."""
    before, changed = state.get("findings_before", 0), state.get("changed", [])
    if "survey" in state and not state["survey"]["python_files"] and not before and not changed:
        return " ".join(["There is no Python in this project; nothing was changed.", *_sentences(state)])
    after = state.get("findings_after", before)
    verb = "Wrote or changed" if "written" in state else "Repaired"
    done = f"{verb} {len(changed)} file(s)." if changed else "Nothing was changed."
    found = f"ruff: {before:,} finding(s) before, {after:,} after."
    return " ".join([done, found, _tests(state), *_sentences(state)])


def _tests(state: RepairState) -> str:
    tests = state.get("tests") or SuiteResult(counts=None, failing=[], problem="they were not run")
    before, after = tests["counts"], state.get("tests_after", tests["counts"])
    if before is None and after is None:
        return f"Tests: not run, because {tests['problem']}."
    if before is None:
        return f"Tests: none before; {_counts(after)} after."
    if after == before:
        return f"Tests: {_counts(before)}, before and after."
    return f"Tests: {_counts(before)} before; {_counts(after)} after."


def _counts(counts: Counts | None) -> str:
    if counts is None:
        return "no result"
    return f"{counts['passed']} passed, {counts['failed']} failed, {counts['errors']} error(s)"


def _sentences(state: RepairState) -> list[str]:
    sentences = []
    taken_back = state.get("taken_back", {})
    if taken_back:
        named = "; ".join(f"{file} ({reason})" for file, reason in list(taken_back.items())[:MAX_NAMED])
        sentences.append(f"Taken back: {named}{_more(len(taken_back))}.")
    for_people = [item for item in state.get("plan", []) if item["action"] == "person"]
    if for_people:
        named = "; ".join(f"{item['rule']} × {item['count']} ({item['title']})" for item in for_people[:MAX_NAMED])
        sentences.append(f"Left for a person or a model: {named}{_more(len(for_people))}.")
    return sentences + [f"{remark}." for remark in state.get("remarks", [])]


def _more(count: int) -> str:
    return f" and {count - MAX_NAMED} more" if count > MAX_NAMED else ""
