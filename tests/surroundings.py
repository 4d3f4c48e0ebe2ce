"""What a test finds around it: the same in every shell and on every machine.

README asks for Python and git and nothing else. So the PATH of the tests has git and what every Unix has. A test that
needs more (a browser, nginx, bubblewrap, curl, the Claude CLI) asks for it by name, see `optional_program`, and skips
where there is none; one that forgets to ask fails everywhere, also where all of them are installed.
"""

import os
import shutil
from pathlib import Path

ORDINARY = (
    *("[", "awk", "basename", "cat", "chmod", "cp", "cut", "date", "dirname", "echo", "env", "expr", "false", "find"),
    *("git", "grep", "head", "hostname", "id", "kill", "ln", "ls", "mkdir", "mktemp", "mount", "mv", "printf", "pwd"),
    *("readlink", "rm", "rmdir", "sed", "seq", "sh", "sleep", "sort", "tail", "tee", "test", "touch", "tr", "true"),
    *("umount", "uname", "uniq", "unshare", "wc", "xargs"),
)
PROVIDERS = ("OPENAI_", "PERPLEXITY_", "ANTHROPIC_", "CLAUDE_", "LANGSMITH_", "LANGCHAIN_")
OF_A_SHELL = (*PROVIDERS, "STELLWERK_", "CELERY_", "GIT_", "PG", "XDG_")
OF_A_TERMINAL = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
NO_CHROMIUM = "there is no Chromium: install Debian's package chromium, or Chrome"

# An ordinary user's PATH lacks the last, but anybody may start nginx.
_places = [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/sbin"]


def forget_the_shell() -> None:
    """No test may talk to a provider or a database because somebody's shell has a key or an address."""
    for name in list(os.environ):
        if name.startswith(OF_A_SHELL) or name in OF_A_TERMINAL:
            del os.environ[name]


def forget_the_proxies() -> None:
    """A company's proxy cannot reach our loopback."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]


def use_ordinary_programs(directory: Path) -> None:
    """Makes the PATH in `directory`, and hides the Claude CLI that a package brings."""
    for name in ORDINARY:
        if found := shutil.which(name):
            (directory / name).symlink_to(found)
    os.environ["PATH"] = str(directory)
    os.environ["STELLWERK_CLAUDE_COMMAND"] = "a-cli-that-nobody-asked-for"


def be_plain() -> None:
    """From now on there is no optional program, as on a machine where nobody has installed one."""
    _places.clear()


def optional_program(*names: str) -> str | None:
    """The path of the first of these that is here."""
    path = os.pathsep.join(_places)
    return next(filter(None, (shutil.which(name, path=path) for name in names)), None)
