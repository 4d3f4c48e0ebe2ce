"""Workspaces on real git: what is imported, what the user's repository can and cannot make happen."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from app.errors import BadPath, WorkspaceConflict
from workers.reading.files import LeftOut, Tree
from workers.reading.listing import FILE
from workers.workspace.checkout import Checkout
from workers.workspace.git import Git
from workers.workspace.importer import REF, import_entries
from workers.workspace.project import Entry, Limits
from workers.workspace.repository import Finished, Merged, Workspace, Workspaces

ROOMY = Limits(max_files=1000, max_bytes=10_000_000)


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=user", "-c", "user.email=user@example.org"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True).stdout


def write(directory: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return directory


def repository(directory: Path, files: dict[str, str | bytes]) -> Path:
    write(directory, files)
    git(directory, "init", "-q")
    git(directory, "add", "-A")
    git(directory, "commit", "-qm", "first")
    return directory


def tree(directory: Path) -> dict[str, bytes]:
    """Every file and link, without what is git's."""
    return {
        str(file.relative_to(directory)): os.fsencode(file.readlink()) if file.is_symlink() else file.read_bytes()
        for file in sorted(directory.rglob("*"))
        if (file.is_symlink() or file.is_file()) and ".git" not in file.relative_to(directory).parts
    }


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "workspaces", ROOMY, (tmp_path,))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "project"


async def opened(workspaces: Workspaces, path: Path) -> tuple[Workspace, Path]:
    workspace = await workspaces.open(uuid4(), path=str(path))
    return workspace, await workspace.checkout(workspace.initial, step=1, attempt=1)


async def finished(workspace: Workspace, worktree: Path) -> Finished:
    commit = await workspace.commit(worktree, agent="codesmith", message="repair")
    assert commit is not None
    return await workspace.finish(commit, session=workspace.home.name)


AWKWARD: dict[str, str | bytes] = {
    "plain.py": "x = 1\n",
    "no newline.py": "x = 1",
    "crlf.py": b"a = 1\r\nb = 2\r\n",
    "Ünïcödé/日本 語.py": "y = 2\n",
    'quo"te\\back\tslash.py': "z = 3\n",
    "new\nline.py": "n = 1\n",
    "empty.py": "",
    "binary.dat": bytes(range(256)) * 3,
    ".gitattributes": "* text=auto eol=crlf ident\n*.dat filter=evil\n*.py working-tree-encoding=UTF-16\n",
    "ident.py": "# $Id$\n",
}


@pytest.mark.parametrize("in_git", [True, False])
async def test_awkward_files_come_and_go_byte_for_byte(workspaces: Workspaces, project: Path, in_git: bool) -> None:
    write(project, AWKWARD)
    (project / "plain.py").chmod(0o755)
    (project / "inside").symlink_to("plain.py")
    (project / "outside").symlink_to("/etc/hostname")
    (project / "dangling").symlink_to("nowhere")
    if in_git:
        git(project, "init", "-q")  # nothing tracked: all of it is as it lies there
    before = tree(project)

    workspace, worktree = await opened(workspaces, project)

    assert tree(worktree) == before
    assert os.access(worktree / "plain.py", os.X_OK)
    assert not os.access(worktree / "crlf.py", os.X_OK)
    assert await workspace.commit(worktree, agent="codesmith", message="nothing") is None

    for name, content in AWKWARD.items():
        (worktree / name).write_bytes(b"new\r\n" + (content if isinstance(content, bytes) else content.encode()))
    (worktree / "plain.py").chmod(0o644)
    (worktree / "crlf.py").chmod(0o755)
    (worktree / "outside").unlink()
    write(worktree, {"added/a b.py": "q = 1\n"})
    after = tree(worktree)
    end = await finished(workspace, worktree)

    assert end.patch_path is not None
    assert end.patch_path.read_bytes() == end.patch
    assert tree(project) == before
    # in a repository the user's own git would follow the user's own attributes
    shutil.rmtree(project / ".git", ignore_errors=True)
    git(project, "apply", str(end.patch_path))
    assert tree(project) == after
    assert os.access(project / "crlf.py", os.X_OK)
    assert not os.access(project / "plain.py", os.X_OK)


async def test_tracked_untracked_dirty_and_ignored(workspaces: Workspaces, project: Path) -> None:
    repository(
        project,
        {
            "tracked.py": "a = 1\n",
            "gone.py": "b = 1\n",
            "generated/kept.txt": "tracked\n",
            "sub/.gitignore": "!keep.log\nlocal*\n",
        },
    )
    git(project, "mv", "gone.py", "moved.py")
    if os.geteuid() == 0:  # git itself refuses a repository of somebody else's
        for place in [project, *project.rglob("*")]:
            os.chown(place, 65534, 65534)
    write(
        project,
        {
            ".gitignore": "*.log\ngenerated/\n/only_here\n\\\n",
            ".git/info/exclude": "excluded.txt\n",
            "tracked.py": "a = 2  # not committed\n",
            "untracked.py": "c = 1\n",
            "noise.log": "",
            "sub/keep.log": "kept",
            "sub/local.txt": "",
            "sub/only_here": "not at the top",
            "only_here": "",
            "excluded.txt": "",
            "generated/new.txt": "",
            "node_modules/dep/index.js": "",
            "__pycache__/x.pyc": "",
            "env/pyvenv.cfg": "",
            "env/lib/x.py": "",
        },
    )

    _, worktree = await opened(workspaces, project)

    assert sorted(tree(worktree)) == [
        ".gitignore",
        "generated/kept.txt",
        "moved.py",
        "sub/.gitignore",
        "sub/keep.log",
        "sub/only_here",
        "tracked.py",
        "untracked.py",
    ]
    assert (worktree / "tracked.py").read_text() == "a = 2  # not committed\n"


async def test_without_git_an_ignore_file_hides_nothing(workspaces: Workspaces, project: Path) -> None:
    write(project, {".gitignore": "_version.py\n", "_version.py": "v = 1\n"})
    _, worktree = await opened(workspaces, project)
    assert sorted(tree(worktree)) == [".gitignore", "_version.py"]


async def test_a_subdirectory_of_a_repository(workspaces: Workspaces, project: Path) -> None:
    files: dict[str, str | bytes] = {
        "ruff.toml": "line-length = 80\n",
        ".gitignore": "*.tmp\n",
        "other.py": "o = 1\n",
        "some dir/pkg/a.py": "a = 1\n",
    }
    repository(project, files)
    write(project, {"some dir/x.tmp": ""})

    workspace, worktree = await opened(workspaces, project / "some dir")
    assert tree(worktree) == {"pkg/a.py": b"a = 1\n"}
    assert (worktree.parent / "ruff.toml").read_text() == "line-length = 80\n"
    assert not (worktree.parent / "other.py").exists()

    write(worktree, {"pkg/a.py": "a = 2\n"})
    assert Checkout.at(worktree).changed() == ["pkg/a.py"]
    end = await finished(workspace, worktree)
    assert end.files == ("some dir/pkg/a.py",)
    git(project, "apply", str(end.patch_path))
    assert (project / "some dir/pkg/a.py").read_text() == "a = 2\n"


async def test_a_directory_that_its_repository_ignores(workspaces: Workspaces, project: Path) -> None:
    repository(project, {".gitignore": "build/\n"})
    write(project, {"build/pkg/a.py": "a = 1\n"})
    _, worktree = await opened(workspaces, project / "build" / "pkg")
    assert tree(worktree) == {"a.py": b"a = 1\n"}


async def test_linked_worktree_and_nested_repository(workspaces: Workspaces, project: Path, tmp_path: Path) -> None:
    repository(project, {"a.py": "a = 1\n", "kept.log": ""})
    linked = tmp_path / "linked"
    git(project, "worktree", "add", "-q", str(linked))
    write(project, {".git/info/exclude": "*.log\n"})
    repository(linked / "vendored", {"v.py": "v = 1\n"})
    write(linked, {"noise.log": ""})

    _, worktree = await opened(workspaces, linked)
    assert tree(worktree) == {"a.py": b"a = 1\n", "kept.log": b"", "vendored/v.py": b"v = 1\n"}
    assert not list(worktree.rglob(".git"))


async def test_nothing_of_the_project_is_executed(workspaces: Workspaces, project: Path, tmp_path: Path) -> None:
    sentinel = tmp_path / "executed"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\necho $0 $* >> '{sentinel}'\n")
    script.chmod(0o755)
    repository(project, {"a.py": "a = 1\n", ".gitattributes": "* filter=evil diff=evil merge=evil\n"})
    for setting in ("core.fsmonitor", "filter.evil.clean", "filter.evil.smudge", "diff.evil.command",
                    "diff.evil.textconv", "merge.evil.driver", "core.sshCommand"):  # fmt: skip
        git(project, "config", setting, str(script))
    for hook in ("post-checkout", "pre-commit", "post-index-change", "post-commit", "reference-transaction"):
        shutil.copy(script, project / ".git" / "hooks" / hook)
    subprocess.run(["git", "status"], cwd=project, check=True, capture_output=True)
    assert sentinel.exists(), "the trap itself must work"
    sentinel.unlink()

    workspace, worktree = await opened(workspaces, project)
    write(worktree, {"a.py": "a = 2\n"})
    # and an agent, or a test that it ran, leaves its own trap in the worktree and in our repository
    repository(worktree / "nested", {"n.py": "n = 1\n"})
    git(worktree / "nested", "config", "core.fsmonitor", str(script))
    (worktree / ".git").write_text(f"gitdir: {project / '.git'}\n")
    git(workspace.gitdir, "config", "core.fsmonitor", str(script))
    git(workspace.gitdir, "config", "core.hooksPath", str(project / ".git" / "hooks"))
    end = await finished(workspace, worktree)

    assert end.files == ("a.py", "nested/n.py")
    assert not sentinel.exists(), sentinel.read_text()


async def test_special_files_are_left_out(workspaces: Workspaces, project: Path) -> None:
    write(project, {"a.py": ""})
    os.mkfifo(project / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(project / "socket"))
        _, worktree = await opened(workspaces, project)
    assert sorted(tree(worktree)) == ["a.py"]


async def test_paths_that_are_refused(workspaces: Workspaces, project: Path, tmp_path: Path) -> None:
    write(project, {"file.py": ""})
    (project / "link").symlink_to("/usr")
    refused = {
        str(project / "missing"): "does not exist",
        str(project / "file.py"): "not a directory",
        "relative": "not an absolute path",
        "/usr": f"not below a directory that this deployment allows: {tmp_path}",
        str(project / "link"): "not below a directory",
        "/\0": "cannot be used",
    }
    for path, reason in refused.items():
        with pytest.raises(BadPath, match=reason):
            await workspaces.open(uuid4(), path=path)
    for repo in ("--upload-pack=touch", "ext::sh -c true", f"file://{project}", str(project), "http://x/y"):
        with pytest.raises(BadPath, match="not the https or ssh address"):
            await workspaces.open(uuid4(), repo=repo)
    assert [child.name for child in workspaces.root.iterdir()] == [".locks"]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(Limits(2, 1000), "more than 2 files"), (Limits(10, 5), "more than 5 bytes")],
)
async def test_too_large(tmp_path: Path, project: Path, limits: Limits, reason: str) -> None:
    repository(project, {".gitignore": "junk/\n", "b.py": "# 1\n", "c.py": "# 2\n"})
    write(project, {f"junk/{number}": "junk" for number in range(20)})
    with pytest.raises(BadPath, match=reason):
        await Workspaces(tmp_path / "w", limits, (tmp_path,)).open(uuid4(), path=str(project))
    roomier = Limits(3, len(".gitignore") + 8)
    await Workspaces(tmp_path / "w", roomier, (tmp_path,)).open(uuid4(), path=str(project))


def test_files_that_change_while_they_are_imported(project: Path, tmp_path: Path) -> None:
    ours = Git(tmp_path / "ours.git")
    git(tmp_path, "init", "-q", "--bare", str(ours.gitdir))
    write(project, {"there.py": "t = 1\n", "sub/x.py": "", "grown.py": "g" * 99})
    (project / "link.py").symlink_to("there.py")
    (project / "linked").symlink_to("sub")
    os.mkfifo(project / "pipe.py")
    listed = ("link.py", "gone.py", "linked/x.py", "pipe.py", "grown.py", "there.py")
    left_out = LeftOut()
    import_entries(ours, project, [Entry(name, FILE, 6) for name in listed], left_out, max_bytes=50)
    assert ours.paths("ls-tree", "-r", "-z", "--name-only", REF) == ["there.py"]
    assert left_out.named == {
        "link.py": "it was replaced by a link",
        "pipe.py": "it is no regular file",
        "grown.py": "it grew while it was read",
    }


def test_files_that_become_shorter_while_they_are_imported(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(tree: Tree, path: str) -> int:
        descriptor = whole(tree, path)
        if path.startswith("short"):
            os.lseek(descriptor, 4, os.SEEK_SET)  # so it ends early, as after a truncation
        return descriptor

    whole = Tree.open
    monkeypatch.setattr(Tree, "open", opened)
    ours = Git(tmp_path / "ours.git")
    git(tmp_path, "init", "-q", "--bare", str(ours.gitdir))
    contents = {"a.py": "a = 1\n", "short 1.py": "s = 1\n", "short\n2.py": "s = 2\n", "there.py": "t = 1\n"}
    write(project, contents)
    left_out = LeftOut()
    entries = [Entry(name, FILE, 6) for name in contents]
    import_entries(ours, project, entries, left_out, max_bytes=50)
    assert ours.paths("ls-tree", "-r", "-z", "--name-only", REF) == ["a.py", "there.py"]
    assert ours.text("show", f"{REF}:there.py") == "t = 1"
    assert set(left_out.named.values()) == {"it became shorter while it was read"} and left_out.count == 2


async def test_opening_at_once_from_several_processes_imports_once(project: Path, tmp_path: Path) -> None:
    write(project, {f"{number}.py": f"x = {number}\n" for number in range(50)})
    code = (
        "import asyncio, sys; from pathlib import Path; from workers.workspace.project import Limits\n"
        "from workers.workspace.repository import Workspaces\n"
        "async def main():\n"
        "    w = Workspaces(Path(sys.argv[1]), Limits(99, 9999), (Path('/'),))\n"
        "    opened = await asyncio.gather(*(w.open('s', path=sys.argv[2]) for _ in range(4)))\n"
        "    print({o.initial for o in opened})\n"
        "asyncio.run(main())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "w"), str(project)]
    processes = [await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE) for _ in range(3)]
    outputs = {(await process.communicate())[0] for process in processes}
    assert len(outputs) == 1
    assert outputs.pop().count(b"'") == 2
    assert sorted(child.name for child in (tmp_path / "w").iterdir()) == [".locks", "s"]


async def test_parallel_commits_are_merged_in_order(workspaces: Workspaces, project: Path) -> None:
    write(project, {"a.py": "a = 1\n", "b.py": "b = 1\n", "c.py": "c = 1\n"})
    workspace, first = await opened(workspaces, project)
    base = workspace.initial
    commits = []
    for number, name in enumerate("abc", start=2):
        worktree = await workspace.checkout(base, step=number, attempt=1)
        write(worktree, {f"{name}.py": f"{name} = 2\n"})
        commits.append(await workspace.commit(worktree, agent=f"agent-{name}", message=f"change {name}"))
    shas = [commit for commit in commits if commit]
    assert await workspace.merge(base, shas[:1]) == shas[0]
    assert await workspace.merge(base, []) == base
    merged = await workspace.merge(base, shas)
    assert await workspace.merge(base, shas) == merged
    log = git(workspace.gitdir, "log", "--format=%an %ae %s", f"{base}..{merged}").splitlines()
    assert log == [f"agent-{n} agent-{n}@stellwerk change {n}" for n in "cba"]
    worktree = await workspace.checkout(merged, step=9, attempt=1)
    assert tree(worktree) == {"a.py": b"a = 2\n", "b.py": b"b = 2\n", "c.py": b"c = 2\n"}

    write(first, {"a.py": "a = 3\n"})
    other = await workspace.commit(first, agent="other", message="a too")
    assert other is not None
    with pytest.raises(WorkspaceConflict, match=r"same lines of a\.py"):
        await workspace.merge(base, [shas[0], other])


async def test_a_new_attempt_gets_a_fresh_directory(workspaces: Workspaces, project: Path) -> None:
    write(project, {"a.py": "a = 1\n"})
    workspace, first = await opened(workspaces, project)
    write(first, {"a.py": "half done"})
    second = await workspace.checkout(workspace.initial, step=1, attempt=2)
    eleventh = await workspace.checkout(workspace.initial, step=11, attempt=1)
    assert second != first
    assert not first.exists()
    assert tree(second) == {"a.py": b"a = 1\n"}
    third = await workspace.checkout(workspace.initial, step=1, attempt=3)
    assert eleventh.exists()
    await workspace.discard(third)
    assert not third.exists()


async def test_originals_and_restoring(workspaces: Workspaces, project: Path) -> None:
    found = {"- dash.py": b"\n" * 9, "a.py": b"a = 1\n", "in\ntwo lines.py": b"i = 1\n", "ü b.py": b"b = 1\r\n"}
    write(project, found)
    (project / "a.py").chmod(0o755)
    _, worktree = await opened(workspaces, project)
    write(worktree, dict.fromkeys(found, "") | {"new.py": "n = 1\n"})
    (worktree / "a.py").chmod(0o644)
    checkout = Checkout.at(worktree)
    files = checkout.changed()
    assert files == sorted([*found, "new.py"])
    assert checkout.originals(files) == found | {"new.py": None}
    checkout.restore(files)
    assert checkout.changed() == []
    assert tree(worktree) == found
    assert os.access(worktree / "a.py", os.X_OK)


async def test_an_empty_workspace_and_nothing_changed(workspaces: Workspaces) -> None:
    workspace = await workspaces.open(uuid4())
    worktree = await workspace.checkout(workspace.initial, step=1, attempt=1)
    assert tree(worktree) == {}
    assert await workspace.commit(worktree, agent="a", message="nothing") is None
    assert await workspace.finish(workspace.initial, session="s") == Finished()
    write(worktree, {"new.py": "n = 1\n"})
    assert (await finished(workspace, worktree)).files == ("new.py",)


async def test_a_sessions_result_says_where_its_changes_are(workspaces: Workspaces, project: Path) -> None:
    write(project, {"a.py": "a = 1\n"})
    session_id = uuid4()
    untouched = await workspaces.merge_steps(session_id, [], base=None, is_last=True)
    assert untouched == Merged(None)
    assert not workspaces.root.exists(), "a session that has no project and changed nothing has no workspace"

    workspace = await workspaces.open(session_id, path=str(project))
    worktree = await workspace.checkout(workspace.initial, step=1, attempt=1)
    write(worktree, {f"new {number:03}.py": "n = 1\n" for number in range(300)})
    commit = await workspace.commit(worktree, agent="codesmith", message="repair")
    assert commit is not None
    merged = await workspaces.merge_steps(session_id, [commit], base=None, is_last=False)
    assert merged == Merged(commit)
    last = await workspaces.merge_steps(session_id, [], base=merged.base, is_last=True, path=str(project))
    assert last.base == commit
    assert last.patch == (workspace.home / f"{session_id}.patch").read_bytes()
    assert len(last.result["files"]) == 200
    assert {**last.result, "files": last.result["files"][:2]} == {
        "branch": f"stellwerk/{session_id}",
        "patch": str(workspace.home / f"{session_id}.patch"),
        "files": ["new 000.py", "new 001.py"],
        "files_changed": 300,
        "workspace": str(workspace.gitdir),
    }


async def test_the_branch_can_be_fetched(workspaces: Workspaces, project: Path) -> None:
    repository(project, {"sub/a.py": "a = 1\n", "b.py": "b = 1\n"})
    workspace, worktree = await opened(workspaces, project / "sub")
    write(worktree, {"a.py": "a = 2\n"})
    end = await finished(workspace, worktree)
    assert end.branch == f"stellwerk/{workspace.home.name}"
    git(project, "fetch", "-q", str(workspace.gitdir), end.branch)
    git(project, "cherry-pick", "FETCH_HEAD")
    assert tree(project) == {"sub/a.py": b"a = 2\n", "b.py": b"b = 1\n"}


async def test_a_repository_is_cloned(tmp_path: Path, project: Path) -> None:
    repository(project, {"a.py": b"a = 1\r\n", ".gitattributes": "* text=auto\n", "b.py": "b = 1\n"})
    address = project.as_uri()
    protocols = ("file",)
    workspaces = Workspaces(tmp_path / "w", ROOMY, (), protocols)
    workspace = await workspaces.open(uuid4(), repo=address)
    worktree = await workspace.checkout(workspace.initial, step=1, attempt=1)
    assert sorted(tree(worktree)) == [".gitattributes", "a.py", "b.py"]
    write(worktree, {"b.py": "b = 2\n"})
    end = await finished(workspace, worktree)
    git(project, "apply", str(end.patch_path))
    assert (project / "b.py").read_text() == "b = 2\n"

    with pytest.raises(BadPath, match="cannot be cloned"):
        await workspaces.open(uuid4(), repo=f"{address}-missing")
    with pytest.raises(BadPath, match="more than 2 files"):
        await Workspaces(tmp_path / "w", Limits(2, 100), (), protocols).open(uuid4(), repo=address)


async def test_remove(workspaces: Workspaces, project: Path) -> None:
    write(project, {"a.py": ""})
    workspace = await workspaces.open(uuid4(), path=str(project))
    await workspace.remove()
    assert not workspace.home.exists()
