"""The chat on a terminal: what is settled scrolls by, what may change stays at the bottom."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sessile.cli.keys import Editor
from sessile.cli.plain import cut, lines
from sessile.cli.view import QUEUE_CHARS_MAX, Block, Card, Note, Running, Said, View

QUEUE_SHOWN_MAX = 5
BAR_WIDTH = 24
MARKS = {
    "waiting": ("?", "yellow"),
    "completed": ("✓", "green"),
    "failed": ("✗", "red"),
    "interrupted": ("!", "yellow"),
    "refused": ("⊘", "yellow"),
}


@dataclass(slots=True)
class Screen:
    """Draws a view. `trouble` is shown in place of the status line."""

    console: Console
    view: View
    editor: Editor
    status: str = ""
    trouble: str = ""
    _live: Live = field(init=False)
    _spinner: Spinner = field(default_factory=lambda: Spinner("dots", style="cyan"))

    def __post_init__(self) -> None:
        self._live = Live(
            self,
            console=self.console,
            auto_refresh=False,
            transient=True,
            vertical_overflow="visible",
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        self._live.stop()

    def refresh(self) -> None:
        """Let go of what is settled, and draw the rest again."""
        for block in self.view.settled():
            self.show(block)
        first = self.view.blocks[0] if self.view.blocks else None
        if isinstance(first, Said):
            self._show_lines(first)
        self._live.refresh()

    def say(self, what: RenderableType) -> None:
        """Above the part that stays."""
        self.console.print(what)

    def show(self, block: Block) -> None:
        """Print a block that will not change, or what of it was not printed yet."""
        for each in drawn(block, self._spinner, self.console.get_time()):
            self.say(each)

    def _show_lines(self, said: Said) -> None:
        """Whole lines of a message that is being written need not stay at the bottom."""
        end = said.text.rfind("\n") + 1
        if end > said.shown:
            if not said.shown and said.thinking:
                self.say(_thinking(said.thinking))
            self.say(_text(said.text[said.shown : end - 1]))
            said.shown = end

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """At most a screen: of what is being written the end, and below it the line of input."""
        options = options.update(height=None)
        below = console.render_lines(Group(*self._below()), options, pad=False)
        below = below[-(max(console.height // 2, 3)) :]
        above = console.render_lines(Group(*self._above(console)), options, pad=False)
        room = max(console.height - len(below) - 1, 0)
        above = above[-room:] if room else []
        for line in (*above, *below[:-1]):
            yield from line
            yield Segment.line()
        yield from below[-1]

    def _above(self, console: Console) -> Iterable[RenderableType]:
        room = console.width * console.height
        for block in self.view.blocks:
            yield from drawn(block, self._spinner, console.get_time(), room)
        if self.view.running is not None:
            yield _running(self.view.running, self._spinner)
        waiting = list(self.view.queue.values())
        for place, text in enumerate(waiting[:QUEUE_SHOWN_MAX], start=1):
            yield Text(f"  queued {place}: {cut(text, QUEUE_CHARS_MAX)}", style="dim")
        if len(waiting) > QUEUE_SHOWN_MAX:
            yield Text(f"  … and {len(waiting) - QUEUE_SHOWN_MAX} more", style="dim")

    def _below(self) -> Iterable[RenderableType]:
        line = Text("> ", style="bold cyan")
        text, place = self.editor.text, self.editor.place
        line.append(lines(text[:place]), style="default not bold")
        at = text[place : place + 1]
        line.append(at if at.isprintable() and at else " ", style="reverse not bold")
        if at == "\n":
            line.append("\n")
        line.append(lines(text[place + 1 :]), style="default not bold")
        yield Text(self.trouble, style="yellow", no_wrap=True, overflow="ellipsis")
        yield line
        yield Text(self.status, style="dim", no_wrap=True, overflow="ellipsis")


def drawn(
    block: Block, spinner: Spinner, now_seconds: float, room: int | None = None
) -> Iterable[RenderableType]:
    """A block as it looks now; of a message, what was not shown yet, and the end of that where
    there is `room` for no more."""
    match block:
        case Said(role="user"):
            yield Text(f"\n> {lines(block.text)}", style="bold cyan")
        case Said():
            if block.thinking and not block.shown:
                yield _thinking(block.thinking if room is None else block.thinking[-room:])
            rest = block.text[block.shown :]
            if room is not None:
                rest = rest[-room:]
            if rest:
                yield _text(rest)
            if block.partial:
                yield Text("  [cut off]", style="dim")
        case Card():
            yield _card(block, spinner, now_seconds)
        case Note():
            yield Text(f"  {lines(block.text)}", style="red" if block.bad else "dim")


class _Indented:
    """Without blanks behind its lines, which would wrap when the window becomes narrower."""

    def __init__(self, inner: RenderableType, left: int = 2) -> None:
        self._inner = inner
        self._left = left

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(options.max_width - self._left, 1)
        inner = options.update(width=width, height=None)
        for line in console.render_lines(self._inner, inner, pad=False):
            yield Segment(" " * self._left)
            yield from line
            yield Segment.line()


def _text(text: str) -> RenderableType:
    return _Indented(Text(lines(text)))


def _thinking(text: str) -> RenderableType:
    return _Indented(Text(lines(text.strip()), style="dim italic"))


def _card(card: Card, spinner: Spinner, now_seconds: float) -> RenderableType:
    said = Text()
    if card.status in MARKS:
        mark, style = MARKS[card.status]
        said.append(f"{mark} ", style=style)
    else:
        style = ""
        said.append_text(_frame(spinner, now_seconds))
        said.append(" ")
    said.append(card.name, style="bold")
    if card.arguments:
        said.append(f" {card.arguments}", style="dim")
    if card.status == "waiting":
        said.append(" may it run? y or n", style=style)
    if card.outcome:
        before = " → " if card.status == "completed" else f" {card.status}: "
        said.append(f"{before}{card.outcome}", style=style)
    return _Indented(said, 4 if card.nested else 2)


def _frame(spinner: Spinner, now_seconds: float) -> Text:
    frame = spinner.render(now_seconds)
    return frame if isinstance(frame, Text) else Text("*")


def _running(running: Running, spinner: Spinner) -> RenderableType:
    row = Table.grid(padding=(0, 1, 0, 0))
    said = Text(style="dim")
    cells: list[RenderableType] = [spinner]
    if running.total_iterations > 0:
        cells.append(
            ProgressBar(running.total_iterations, running.current_iteration, width=BAR_WIDTH)
        )
        said.append(f"{running.current_iteration}/{running.total_iterations}")
    elif running.current_iteration:
        said.append(f"step {running.current_iteration}")
    if running.tokens_used:
        most = f" of {running.total_tokens:,}" if running.total_tokens else ""
        said.append(f"{' · ' if said else ''}{running.tokens_used:,}{most} tokens")
    if running.note:
        said.append(f"{' · ' if said else ''}{running.note}")
    if running.cancelling:
        said.append(f"{' · ' if said else ''}cancelling", style="yellow")
    cells.append(said)
    row.add_row(*cells)
    return Padding(row, (0, 0, 0, 2))
