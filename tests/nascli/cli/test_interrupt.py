from __future__ import annotations

import os
import signal
import threading

import pytest

from nascli.cli.interrupt import interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_stops(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), interruption() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        assert "once more to stop at once" in capfd.readouterr().err
        os.kill(os.getpid(), number)


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with interruption():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_in_another_thread_there_are_no_signals_to_hear() -> None:
    heard: list[bool] = []

    def work() -> None:
        with interruption() as stop:
            heard.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [False]
