"""What opens a repository: out of its address, encrypted, and git's for the time of the clone alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from app.config import Settings
from app.errors import BadInput, BadPath, UnknownSecret
from app.sessions.credentials import Credentials, check_address, decrypted, encrypted, without_credentials
from app.sessions.model import NewSession
from tests.git_server import GitServer, git_server, make_repository
from workers.workspace.git import clean_environment, execute
from workers.workspace.project import Limits
from workers.workspace.repository import Workspaces

PASSWORD = "canary p@ss/w:rd'é"


@pytest.mark.parametrize(
    ("address", "recorded", "found"),
    [
        ("https://me:secret@host/x.git", "https://host/x.git", Credentials("me", "secret")),
        ("https://token@host:8443/x.git", "https://host:8443/x.git", Credentials("token", "")),
        ("https://:p%40ss@host/x", "https://host/x", Credentials("", "p@ss")),
        ("https://me:a@b:c@host/x", "https://host/x", Credentials("me", "a@b:c")),
        ("https://host/x@y", "https://host/x@y", None),
        ("ssh://git@host/x", "ssh://git@host/x", None),
        ("git@host:x.git", "git@host:x.git", None),
    ],
)
def test_they_are_taken_out_of_the_address(address: str, recorded: str, found: Credentials | None) -> None:
    assert without_credentials(address) == (recorded, found)
    assert "secret" not in repr(found)


def test_a_password_for_ssh_is_refused_without_being_said_again() -> None:
    with pytest.raises(BadInput) as refused:
        without_credentials("ssh://git:secret@host/x")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://host/x.git?access_token=secret",
        "https://host/x.git#secret",
        "https:///me:secret@host/x.git",
        "https://:secret@/x.git",
        "https://me:se/cret@host/x.git",
        "https://me:secret@host?x",
        "ssh://git@host/x?secret",
        "ssh:///git:secret@host/x",
        "HTTPS://me:secret@host/x",
        "https://",
        "git://me:secret@host/x",
        " https://me:secret@host/x",
    ],
)
def test_an_address_in_which_a_secret_would_not_be_found_is_refused(address: str) -> None:
    with pytest.raises(BadInput, match="user:password@") as refused:
        check_address(address)
    assert "secret" not in str(refused.value) and "cret@" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://host/x.git",
        "https://me:secret@host:8443/x.git",
        "https://me:a@b:c@host/x",
        "https://token@[::1]:80/x",
        "https://host",
        "ssh://git@host:22/~x/y@z",
        "git@host:x.git",
        "https://host/a%20b/x:y",
        "/srv/c#/what?",
        "file:///srv/c#/what?",
    ],
)
def test_other_addresses_are_taken(address: str) -> None:
    check_address(address)


def test_an_address_that_an_earlier_version_took_is_still_read() -> None:
    assert without_credentials("https://me:p@host/x?y") == ("https://host/x?y", Credentials("me", "p"))


def test_who_shares_the_key_can_read_them() -> None:
    gateway = Settings(database_url="postgresql://app:one-password@db/x")
    content = encrypted(Credentials("me", PASSWORD), gateway)
    assert PASSWORD.encode() not in content
    assert decrypted(content, Settings(database_url="postgresql://other:one-password@elsewhere/x")).password == PASSWORD
    for other in ("postgresql://app:another@db/x", "postgresql://db/x"):
        with pytest.raises(UnknownSecret, match="STELLWERK_CREDENTIALS_KEY"):
            decrypted(content, Settings(database_url=other))
    with pytest.raises(BadInput, match="STELLWERK_CREDENTIALS_KEY"):
        encrypted(Credentials("me", "x"), Settings(database_url="postgresql://db/x"))
    keyed: Any = {"credentials_key": "a key of its own", "database_url": "postgresql://db/x"}
    assert decrypted(encrypted(Credentials("", "x"), Settings(**keyed)), Settings(**keyed)) == Credentials("", "x")


def test_they_are_no_part_of_what_tells_two_requests_apart() -> None:
    new = NewSession("x", repo="https://host/x")
    assert new.digest() == NewSession("x", repo="https://host/x", repo_credentials=b"1").digest()
    assert new.digest() != NewSession("x", repo="https://host/y").digest()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "served").mkdir()
    make_repository(tmp_path / "served")
    with git_server(tmp_path / "served", user="me", password=PASSWORD) as server:
        yield server


def workspaces(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "workspaces", Limits(100, 10**6), (), clone_protocols=("http",))


def everything_below(directory: Path) -> str:
    """Names and contents of all files."""
    files = [file for file in directory.rglob("*") if file.is_file()]
    return "\n".join(f"{file} {file.read_bytes().decode(errors='replace')}" for file in files)


@pytest.mark.parametrize("is_inside", [False, True], ids=["kept beside", "in an address of before"])
async def test_git_gets_them_and_nothing_that_others_see(
    server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_inside: bool
) -> None:
    seen: list[str] = []

    def watched(arguments: Any, **options: Any) -> Any:
        seen.extend([*map(str, arguments), *map(str, options["env"].values())])
        return execute(arguments, **options)

    monkeypatch.setattr("workers.workspace.origin.execute", watched)
    repo = f"{server.url}/project.git"
    credentials = None if is_inside else Credentials("me", PASSWORD)
    inside = repo.replace("://", f"://me:{quote(PASSWORD, safe='')}@")
    workspace = await workspaces(tmp_path).open("s", repo=inside if is_inside else repo, credentials=credentials)
    checkout = await workspace.checkout(workspace.initial, step=1, attempt=1)
    assert (checkout / "a.py").read_text() == "x = 1\n"
    forms = (PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), "canary")
    assert not any(form in text for form in forms for text in seen)
    assert not any(form in everything_below(tmp_path / "workspaces") for form in forms)


def test_git_is_given_no_secret_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "STELLWERK_TOKEN", "GIT_ASKPASS", "A_TEAMS_PASSWORD"):
        monkeypatch.setenv(name, PASSWORD)
    assert PASSWORD not in clean_environment().values()


@pytest.mark.parametrize("wrong", [Credentials("me", "not the canary"), Credentials("", ""), None])
async def test_a_refusal_says_none(server: GitServer, tmp_path: Path, wrong: Credentials | None) -> None:
    with pytest.raises(BadPath) as refused:
        await workspaces(tmp_path).open("s", repo=f"{server.url}/project.git", credentials=wrong)
    assert "canary" not in str(refused.value) and "git clone" in str(refused.value)
    assert list((tmp_path / "workspaces").glob(".*building*")) == []


async def test_another_host_to_which_the_server_sends_gets_none(server: GitServer, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with git_server(tmp_path / "other", user="me", password=PASSWORD) as thief:
        server.redirects_to = thief.url
        with pytest.raises(BadPath):
            repo = f"{server.url}/project.git"
            await workspaces(tmp_path).open("s", repo=repo, credentials=Credentials("me", PASSWORD))
        assert thief.authorizations and set(thief.authorizations) == {None}
