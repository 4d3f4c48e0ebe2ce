"""One line of what `stellwerk doctor` found."""

from dataclasses import dataclass

from rich.text import Text

from app.terminal import clean

OK, WARN, FAIL = 0, 1, 2
STYLES = {OK: ("ok", "green"), WARN: ("warn", "yellow"), FAIL: ("fail", "bold red")}


@dataclass(frozen=True, slots=True)
class Finding:
    level: int
    name: str
    detail: str

    @property
    def line(self) -> Text:
        word, style = STYLES[self.level]
        line = Text(f"{word:<5}", style=style)
        return line.append(f"{self.name:<10} {clean(self.detail)}", style="default")
