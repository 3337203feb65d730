"""What the demo prints: one block per step, with the facts it was asserted from and the time it took."""

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_INDENT = (0, 0, 0, 4)


class Show:
    """Prints to a console; plain lines where it is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._number = 0

    def title(self, text: str, subtitle: str) -> None:
        """The first thing to see."""
        self._console.print(
            Panel(Text(subtitle), title=f"[bold]{text}[/bold]", border_style="cyan", expand=False)
        )

    def step(self, title: str) -> None:
        """A step begins."""
        self._number += 1
        self._console.print()
        self._console.print(f"[bold cyan]{self._number}[/bold cyan]  [bold]{title}[/bold]")

    def done(self, text: str, seconds: float | None = None) -> None:
        """Something happened, as asserted."""
        took = "" if seconds is None else f"  [dim]{_duration(seconds)}[/dim]"
        self._console.print(Padding(f"[green]✓[/green] {text}{took}", _INDENT, expand=False))

    def note(self, text: str) -> None:
        """An explanation."""
        self._console.print(Padding(f"[dim]{escape(text)}[/dim]", _INDENT, expand=False))

    def facts(self, rows: list[tuple[str, str]]) -> None:
        """Name and value, one a line."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="magenta", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, Text(value))
        self._console.print(Padding(table, (0, 0, 0, 6), expand=False))

    def command(self, text: str) -> None:
        """A line to copy: never wrapped, so that it can be."""
        self._console.print(Text(f"      {text}"), soft_wrap=True)

    def failed(self, reason: str) -> None:
        """The end, when a step did not happen."""
        self._console.print()
        self._console.print("[bold red]✗ the demo failed[/bold red]")
        self._console.print(Text(f"    {reason}"), soft_wrap=True)

    def ended(self, seconds: float) -> None:
        """The end, when every step happened."""
        self._console.print()
        self._console.print(
            f"[bold green]✓ every step happened[/bold green]  [dim]{_duration(seconds)}[/dim]"
        )


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
