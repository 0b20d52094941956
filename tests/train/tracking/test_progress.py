"""Progress in a file: lines at tenths, and no bar."""

import io
import sys

import pytest

from train.tracking.progress import Progress, amount, duration, over


class Clock:
    """A clock that goes on by `step` seconds each time that it is read."""

    def __init__(self, step: float) -> None:
        self.time, self.step = 0.0, step

    def __call__(self) -> float:
        self.time += self.step
        return self.time


def lines(total: float | None, counts: list[float], seconds: float, capsys: pytest.CaptureFixture[str]) -> list[str]:
    with Progress("digits", "image", total, clock=Clock(seconds)) as progress:
        for count in counts:
            progress.update(count)
    return capsys.readouterr().err.splitlines()


def test_a_file_gets_one_line_a_tenth_however_many_updates_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    text = lines(1000, [1.0] * 1000, 60.0, capsys)
    assert [line.split(" %")[0] for line in text] == [f"digits: {tenth}" for tenth in range(10, 101, 10)]
    assert not any("\r" in line for line in text)


def test_steps_larger_than_a_tenth_have_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    text = lines(100, [35.0, 35.0, 30.0], 100.0, capsys)
    assert [line.split(" of")[0] for line in text] == ["digits: 35 %", "digits: 70 %", "digits: 100 %"]


def test_a_line_has_the_rate_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = lines(1200, [600.0, 600.0], 10.0, capsys)  # the clock is read once at the start and once an update
    assert first == "digits: 50 % of 1,200 images, 60 images/s, 10 s left"
    assert second == "digits: 100 % of 1,200 images, 60 images/s, done in 20 s"


def test_what_was_done_before_is_no_part_of_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("digits", "image", 100, initial=50, clock=Clock(10.0)) as progress:
        progress.note("loss 3")
        progress.update(10)
    assert capsys.readouterr().err == "digits: 60 % of 100 images, 1 images/s, 40 s left, loss 3\n"


def test_what_ends_at_once_has_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(10, [1.0] * 10, 0.1, capsys) == []
    assert list(over(range(3), "digits", "image")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_without_a_total_a_line_comes_each_minute(capsys: pytest.CaptureFixture[str]) -> None:
    text = lines(None, [5.0] * 10, 30.0, capsys)
    assert len(text) == 5 and text[0].startswith("digits: 10 images, ")


def test_a_silent_one_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("digits", "image", 2, silent=True, clock=Clock(60.0)) as progress:
        progress.update(2)
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(over(range(3), "digits", "image")) == [0, 1, 2]
    assert "\r" in terminal.getvalue() and "3/3" in terminal.getvalue()


def test_numbers_and_times_are_read_at_a_glance() -> None:
    assert [amount(number) for number in (3, 3.14159, 99.95, 12345.6)] == ["3", "3.14", "100", "12,346"]
    assert [duration(seconds) for seconds in (3.2, 89, 90, 3600, 7200)] == ["3 s", "89 s", "2 min", "60 min", "2.0 h"]
