"""Progress of long work: a bar on a terminal, one line every 30 s otherwise."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """Shows what is done and what remains, what runs now, and the time that is left."""

    def __init__(
        self, total: int, label: str, *, what: str = "units", stream: TextIO | None = None, every: float = 30.0
    ) -> None:
        """``what`` is counted; ``every`` is the number of seconds between two lines when ``stream`` is no terminal."""
        self._stream = sys.stderr if stream is None else stream
        self._label, self.total, self._what, self._every = label, total, what, every
        self._start = self._last = time.monotonic()
        self._bar = None
        if self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=label, file=self._stream, dynamic_ncols=True,
                             bar_format="{desc} {bar:20} {n_fmt}/{total_fmt} " + what + " [{elapsed}{postfix}]")

    def update(self, done: int, running: list[str], minutes_left: float | None) -> None:
        """``running`` describes what runs now; ``minutes_left`` is None when nothing is known."""
        left = "time left unknown" if minutes_left is None else f"~{max(minutes_left, 0.1):.1f} min left"
        if self._bar is not None:
            self._bar.n = done
            self._bar.set_postfix_str(f"{left}; {'; '.join(running)}")
            return
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self.say(f"{self._label}: {done} of {self.total} {self._what} done, {self.total - done} remaining, {left}, "
                     f"{(self._last - self._start) / 60:.1f} min so far; {'; '.join(running) or 'starting'}")

    def say(self, text: str) -> None:
        """Print a line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
