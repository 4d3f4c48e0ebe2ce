"""The workspace of a session that goes on from another: it starts at that one's result, then does without it."""

from pathlib import Path
from uuid import UUID, uuid4

import pytest

from app.errors import BadPath
from tests.unit.test_workspace import ROOMY, git, repository, tree, write
from workers.workspace.checkout import Checkout
from workers.workspace.repository import Merged, Workspaces


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "workspaces", ROOMY, (tmp_path,))


async def turn(
    workspaces: Workspaces,
    files: dict[str, str | bytes],
    *,
    path: Path | None = None,
    continues: UUID | None = None,
    base: str | None = None,
) -> tuple[UUID, Merged, dict[str, bytes]]:
    """A session of one step that writes the files: its id, what it left, and what it found."""
    session_id, project = uuid4(), str(path) if path else None
    workspace = await workspaces.open(session_id, path=project, continues=continues, base=base)
    worktree = await workspace.checkout(base or workspace.initial, step=1, attempt=1)
    found = tree(worktree)
    write(worktree, files)
    commit = await workspace.commit(worktree, agent="codesmith", message="repair")
    await workspace.discard(worktree)
    commits = [] if commit is None else [commit]
    merged = await workspaces.merge_steps(
        session_id, commits, base=base, is_last=True, path=project, continues=continues
    )
    return session_id, merged, found


async def test_it_starts_where_the_other_one_ended(workspaces: Workspaces, tmp_path: Path) -> None:
    project = repository(tmp_path / "project", {"sub/a.py": "a = 1\n", "b.py": "b = 1\n"})
    path = project / "sub"
    first, one, _ = await turn(workspaces, {"a.py": "a = 2\n", "new.py": "n = 1\n"}, path=path)
    second, two, found = await turn(workspaces, {"a.py": "a = 3\n"}, path=path, continues=first, base=one.base)
    assert found == {"a.py": b"a = 2\n", "new.py": b"n = 1\n"}
    _, three, found = await turn(workspaces, {"c.py": "c = 1\n"}, path=path, continues=second, base=two.base)
    assert found == {"a.py": b"a = 3\n", "new.py": b"n = 1\n"}

    # Each result is what that session changed, so they apply one after the other.
    assert [merged.result["files"] for merged in (one, two, three)] == [
        ["sub/a.py", "sub/new.py"],
        ["sub/a.py"],
        ["sub/c.py"],
    ]
    for merged in (one, two, three):
        git(project, "apply", str(merged.result["patch"]))
    assert tree(path) == {"a.py": b"a = 3\n", "new.py": b"n = 1\n", "c.py": b"c = 1\n"}


async def test_it_does_without_the_other_ones_workspace(workspaces: Workspaces, tmp_path: Path) -> None:
    project = repository(tmp_path / "project", {"a.py": "a = 1\n"})
    first, one, _ = await turn(workspaces, {"a.py": "a = 2\n"}, path=project)
    opened = await workspaces.open(uuid4(), path=str(project), continues=first, base=one.base)
    await (await workspaces.open(first)).remove()
    worktree = await opened.checkout(opened.initial, step=1, attempt=1)
    assert tree(worktree) == {"a.py": b"a = 2\n"}
    write(worktree, {"a.py": "a = 3\n"})
    checkout = Checkout.at(worktree)
    assert checkout.originals(checkout.changed()) == {"a.py": b"a = 2\n"}, (
        "what the session found is the other's result"
    )
    assert await opened.commit(worktree, agent="a", message="m") is not None


async def test_what_was_not_changed_is_as_it_was_imported(workspaces: Workspaces, tmp_path: Path) -> None:
    """Also when the user's files have moved on since."""
    project = repository(tmp_path / "project", {"a.py": "a = 1\n"})
    first, one, _ = await turn(workspaces, {}, path=project)
    assert one.base is None
    write(project, {"a.py": "a = 9\n"})
    _, two, found = await turn(workspaces, {}, path=project, continues=first)
    assert found == {"a.py": b"a = 1\n"}
    assert two.result["files_changed"] == 0


async def test_a_session_without_files_is_continued_without_files(workspaces: Workspaces) -> None:
    parent, session_id = uuid4(), uuid4()
    assert await workspaces.merge_steps(session_id, [], base=None, is_last=True, continues=parent) == Merged(None)
    assert not workspaces.root.exists()
    first, one, found = await turn(workspaces, {"a.py": "a = 1\n"}, continues=parent)
    assert found == {}
    _, _, found = await turn(workspaces, {}, continues=first, base=one.base)
    assert found == {"a.py": b"a = 1\n"}


async def test_a_workspace_that_is_gone_is_said_to_be(workspaces: Workspaces, tmp_path: Path) -> None:
    project = repository(tmp_path / "project", {"a.py": "a = 1\n"})
    parent = uuid4()
    with pytest.raises(BadPath, match=f"The workspace of session {parent}, which is continued, is not here"):
        await workspaces.open(uuid4(), path=str(project), continues=parent)
    with pytest.raises(BadPath, match="is not here"):
        await workspaces.open(uuid4(), continues=parent, base="c0ffee")
