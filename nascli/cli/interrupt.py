"""Ctrl-C and SIGTERM: the first asks the engine to finish the network in hand, the second stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from nascli.cli import console


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Within: a function that says whether the user has asked to stop."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        console.note_at_once("\nStopping after what is being measured now; once more to stop at once.")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
