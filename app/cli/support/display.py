"""What `stellwerk run` shows while a session goes on."""

from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import Any, Protocol, Self

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from app.cli.console import err, out, print_json_text, print_text, say
from app.cli.support.describe import STATUS_STYLES, describe, is_news
from app.cli.support.event_reader import Event
from app.terminal import clean

MESSAGE_WIDTH = 60


class Display(Protocol):
    """Shows a session's events; is entered before the first and left after the last."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...

    def show(self, event: Event, content: Mapping[str, Any]) -> None: ...


def choose_display(*, as_json: bool) -> Display:
    if as_json:
        return JsonLines()
    return Bars() if out.is_interactive else Lines()


def busy(message: str) -> AbstractContextManager[object]:
    """Says on standard error what is being waited for."""
    if err.is_interactive:
        return err.status(Text(message))
    say(message)
    return nullcontext()


class JsonLines(ExitStack):
    """The events themselves, and nothing else."""

    def show(self, event: Event, content: Mapping[str, Any]) -> None:
        print_json_text(event.line)


class Lines(ExitStack):
    """A line for each event that is news."""

    def show(self, event: Event, content: Mapping[str, Any]) -> None:
        if is_news(content):
            print_text(describe(content, event.id))


class Bars(ExitStack):
    """A bar for each agent, and above them decisions, results and trouble as they fall."""

    def __init__(self) -> None:
        super().__init__()
        self._progress = Progress(
            TextColumn("{task.description}", style="cyan", markup=False),
            BarColumn(bar_width=24),
            PercentColumn(),
            MessageColumn(),
            console=out,
        )
        self._bars: dict[str, TaskID] = {}
        self._superstep: dict[str, int] = {}
        self._shares: dict[str, dict[int, float | None]] = defaultdict(dict)

    def __enter__(self) -> Self:
        self.enter_context(self._progress)
        return self

    def show(self, event: Event, content: Mapping[str, Any]) -> None:
        match content:
            case {"t": "agent_event"}:
                self._move(content["agent"], content["step"], content["pct"], content["msg"])
            case {"t": "step_event"}:
                self._on_step(content)
            case _:
                pass
        if is_news(content) and content.get("phase") not in {"progress", "think"}:
            print_text(describe(content, event.id))

    def _on_step(self, content: Mapping[str, Any]) -> None:
        agent, step, status = content["agent"], content["step"], content["status"]
        match status:
            case "queued":
                superstep = content.get("superstep", self._superstep.get(agent, 0))
                if superstep != self._superstep.get(agent):  # its next turn begins at nothing
                    self._shares[agent].clear()
                    self._superstep[agent] = superstep
                self._move(agent, step, 0.0, "queued")
            case "succeeded":
                self._move(agent, step, 1.0, None)
            case "running":
                self._move(agent, step, 0.0, "running")
            case _:
                self._move(agent, step, self._shares[agent].get(step), status, style=STATUS_STYLES.get(status, ""))

    def _move(self, agent: str, step: int, share: float | None, message: str | None, *, style: str = "") -> None:
        """The bar of an agent with many parallel steps shows their mean."""
        shares = self._shares[agent]
        shares[step] = share
        known = [min(max(value, 0.0), 1.0) for value in shares.values() if value is not None]
        total = len(shares) if known else None  # a bar without a total pulses
        if agent not in self._bars:
            self._bars[agent] = self._progress.add_task(clean(agent), total=total, message="", style="")
        self._progress.update(self._bars[agent], total=total, completed=sum(known))
        if message is not None:
            self._progress.update(self._bars[agent], message=clean(message), style=style)


class PercentColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("  … " if task.total is None else f"{task.percentage:>3.0f}%")


class MessageColumn(ProgressColumn):
    """The agent's last words, on one line."""

    def render(self, task: Task) -> Text:
        text = Text(task.fields["message"], style=task.fields["style"] or "dim", no_wrap=True)
        text.truncate(MESSAGE_WIDTH, overflow="ellipsis")
        return text
