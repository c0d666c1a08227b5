"""The progress bar of the benches."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class ProgressBar:
    """One line that says which bench does what, and how far it is; nothing where nobody looks."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("[bold]{task.fields[bench]}[/bold] {task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            refresh_per_second=4,  # the cores are what is measured
            disable=not console.is_terminal,
        )
        self._task = self.progress.add_task("", bench="", total=None)
        self._bench = ""

    def bench(self, name: str) -> None:
        """Begins the next benchmark."""
        self._bench = name
        self.step("", None)

    def step(self, what: str, total: int | None) -> Callable[[int], None]:
        """Begins a step; call what comes back with how much of ``total`` is done."""
        self.progress.reset(self._task, description=what, total=total, bench=self._bench)
        return lambda done: self.progress.update(self._task, completed=done)
