"""The progress of training and of other long tasks, on a terminal and elsewhere."""

import io
import re

import pytest

from common.progress import clock, with_progress
from training.progress_bar import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_there_are_plain_lines():
    stream = io.StringIO()
    progress = ProgressBar("run", 100, 0, 4, stream)
    for step in range(1, 11):
        progress.step(step, 0.5)
    assert stream.getvalue() == ""
    progress.log({"cycle_a": 1.25, "cycle_b": 2.0}, 2e-4)
    progress.close()
    line = "step 10/100  8 images/s  left 0:45  lr 0.0002  cycle_a 1.25  cycle_b 2\n"
    assert stream.getvalue() == line


def test_on_a_terminal_two_lines_rewrite_themselves_within_its_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    progress = ProgressBar("a-rather-long-name-of-a-run", 1000, 0, 1, stream)
    for step in range(1, 4):
        progress._drawn_at = 0.0  # as if a fifth of a second had passed
        progress.step(step, 0.1)
        progress.log({f"a_loss_of_some_name_{n}": 0.5 for n in range(9)}, 1e-4)
    progress.note("a note")
    progress.close()
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", stream.getvalue())
    assert max(len(line) for line in plain.splitlines()) <= 80
    assert (
        stream.getvalue().count("\x1b[2A\x1b[J") == 6
    )  # drawn seven times, erased before each next
    assert "3/1,000" in plain and "10 images/s" in plain and "a note" in plain


def test_the_rate_is_that_of_the_last_steps():
    progress = ProgressBar("run", 1000, 0, 1, io.StringIO())
    for step in range(1, 101):
        progress.step(step, 10.0 if step < 60 else 0.1)
    assert progress.images_per_second() == pytest.approx(10)
    assert progress.seconds_left() == pytest.approx(90)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (65, "1:05"), (3599.6, "1:00:00"), (7384, "2:03:04")]
)
def test_durations_are_written_as_people_read_them(seconds, text):
    assert clock(seconds) == text


def test_with_progress_yields_its_items_and_erases_its_line():
    terminal, file = Terminal(), io.StringIO()
    assert (
        list(with_progress("abc", 3, "x", terminal))
        == ["a", "b", "c"]
        == list(with_progress("abc", 3, "x", file))
    )
    assert terminal.getvalue().endswith("\r\x1b[K") and "2/3" in terminal.getvalue()
    assert file.getvalue() == ""


def test_a_starved_run_is_warned_once():
    progress = ProgressBar("run", 1000, 0, 1, io.StringIO())
    for step in range(1, 30):
        progress.step(step, 0.1, waited=0.05)
        assert not progress.should_warn_of_starvation()
    progress.step(30, 0.1, waited=0.05)
    assert progress.waiting_share() == pytest.approx(0.5)
    assert progress.should_warn_of_starvation() and not progress.should_warn_of_starvation()
    fed = ProgressBar("run", 1000, 0, 1, io.StringIO())
    for step in range(1, 40):
        fed.step(step, 0.1, waited=0.01)
    assert not fed.should_warn_of_starvation()
