"""What long work shows: on a terminal, in a file, and nowhere."""

import contextlib
import io
import os
import sys
import time

import pytest

from dnr_jax import progress
from dnr_jax.progress import Progress, on_terminal, stage


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture(autouse=True)
def capable_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")


def test_a_file_gets_a_line_every_ten_seconds_and_one_at_the_end(clock, capsys):
    with Progress(600, "checking", "video") as work:
        for _ in range(120):
            clock[0] += 0.25
            work.update(5)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "checking: 200/600 videos, 00:10 elapsed, 00:20 left",
        "checking: 400/600 videos, 00:20 elapsed, 00:10 left",
        "checking: 600/600 videos, 00:30 elapsed",
    ]


def test_lines_become_rarer_after_ten_minutes(clock, capsys):
    with Progress(7200, "training", "clip") as work:
        for _ in range(7200):
            clock[0] += 1
            work.update()
    assert len(capsys.readouterr().err.splitlines()) == pytest.approx(60 + 110, abs=2)


def test_short_work_leaves_no_line(clock, capsys):
    with Progress(3, "checking", "video") as work:
        clock[0] += 3
        work.update(3)
    assert capsys.readouterr() == ("", "")


def test_the_first_unit_does_not_count_for_the_rest(clock, capsys):
    """24 s of compiling, then a second each."""
    with Progress(100, "training", "step", initial=20) as work:
        work._display._first = progress._after(1e6, lambda: None)
        clock[0] += 24
        work.update()
        clock[0] += 10
        work.update(10)
    assert capsys.readouterr().err.splitlines()[1] == "training: 31/100 steps, 00:34 elapsed, 01:09 left"


def test_what_comes_first_is_said_where_it_takes_long(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SLOW", 0.01)
    with Progress(2, "training", "step", first="compiling") as work:
        time.sleep(0.05)
        work.update(2)
    assert capsys.readouterr().err == "training: compiling\n"
    with Progress(2, "training", "step", first="compiling") as work:
        work.update(2)
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_notes_stand_at_the_end_of_the_line(clock, capsys):
    with Progress(4, "training", "clip") as work:
        clock[0] += 10
        work.note(loss="0.5", accuracy="75%")
        work.update(4)
    assert capsys.readouterr().err == "training: 4/4 clips, 00:10 elapsed, loss 0.5, accuracy 75%\n"


@pytest.mark.parametrize("show", [True, False])
def test_texts_are_printed_where_they_are_asked_for(show, capsys):
    with Progress(4, "predicting", "video", show=show) as work:
        work.print("jump")
        work.print("broken", sys.stderr)
    assert capsys.readouterr() == ("jump\n", "broken\n")


def test_a_terminal_has_a_bar_that_goes_away(capsys):
    with (
        contextlib.redirect_stderr(Terminal()) as terminal,
        Progress(4, "checking", "video", first="compiling") as work,
    ):
        assert "checking: compiling ... 00:00" in terminal.getvalue()
        work.update(2)
        work.note(loss="0.5")
        work.print("jump")
        work._display._bar.refresh()
        assert "checking:  50%" in terminal.getvalue() and ", loss 0.5]" in terminal.getvalue()
    assert capsys.readouterr().out == "jump\n"
    assert terminal.getvalue().endswith("\r")


def test_nothing_is_shown_where_nothing_is_asked_for():
    with contextlib.redirect_stderr(Terminal()) as terminal:
        with Progress(4, "checking", "video", show=False) as work, stage("importing", show=False):
            work.update(4)
            work.note(loss="1")
    assert terminal.getvalue() == ""


def test_a_stage_is_told_to_a_file_only_where_it_takes_long(monkeypatch, capsys):
    with stage("importing"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_SLOW", 0.01)
    monkeypatch.setattr(progress, "_NEXT_LINE", 0.02)
    with stage("importing"):
        time.sleep(0.1)
    assert capsys.readouterr().err == "importing ...\nimporting: 0 s\n"


def test_a_stage_on_a_terminal_goes_away():
    with contextlib.redirect_stderr(Terminal()) as terminal:
        with pytest.raises(KeyError), stage("importing"):
            assert "importing ... 00:00" in terminal.getvalue()
            raise KeyError
    assert terminal.getvalue().endswith("\r")


def test_a_dumb_terminal_is_none(monkeypatch):
    with contextlib.redirect_stderr(Terminal()):
        assert on_terminal()
        monkeypatch.setenv("TERM", "dumb")
        assert not on_terminal()


@pytest.mark.parametrize(("size", "expected"), [((80, 24), True), ((0, 0), False), ((80, 0), False)])
def test_a_terminal_without_room_is_none(size, expected, monkeypatch):
    monkeypatch.setattr(Terminal, "fileno", lambda terminal: 2)
    monkeypatch.setattr(progress.os, "get_terminal_size", lambda descriptor: os.terminal_size(size))
    with contextlib.redirect_stderr(Terminal()):
        assert on_terminal() is expected
