"""Progress bars on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True)


@contextmanager
def pretraining(title: str, steps: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how many of the steps are done."""
    if not console.is_terminal:
        started = time.monotonic()
        print(f"{title}: {steps} steps", file=sys.stderr, flush=True)
        yield lambda done: None
        print(f"{title}: done in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        handle = bar.add_task(title, total=steps)
        yield lambda done: bar.update(handle, completed=done)


class RunProgress:
    """One run: steps, steps per second, the last return, time left."""

    def __init__(self, title: str, total: int, done: int) -> None:
        self.total, self.first, self.started, self.last = total, done, time.monotonic(), ""
        self.bar: Progress | None = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[info]}"),
            )
            self.bar = Progress(*columns, TimeRemainingColumn(), console=console)
            self.bar.start()
            self.handle = self.bar.add_task(title, total=total, completed=done, info="")

    def steps(self, env_steps: int) -> None:
        self.rate = (env_steps - self.first) / max(1e-9, time.monotonic() - self.started)
        if self.bar:
            self.bar.update(
                self.handle, completed=min(env_steps, self.total), info=f"{self.rate:.0f} steps/s {self.last}"
            )

    def evaluated(self, env_steps: int, mean: float, success: float | None = None) -> None:
        self.last = f"return {mean:.0f}" if success is None else f"success {success:.0%}"
        self.steps(env_steps)
        if not self.bar:
            line = f"{env_steps:>9} / {self.total} steps  {self.last}"
            if env_steps > self.first:
                left = max(0.0, (self.total - env_steps) / self.rate)
                line += f"  {self.rate:.0f} steps/s  {left / 60:.1f} min left"
            print(line, flush=True)

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
