"""`make faults` tries ten times as many faults as `make test`, and prints what it tried, by kind."""

from collections.abc import Callable

import pytest

Count = Callable[..., None]
_KINDS: dict[str, list[int]] = {}


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> int:
    """Of 10: how much of the full count is tried."""
    return 10 if request.config.getoption("--full") else 1


@pytest.fixture
def count() -> Count:
    """count(kind, tried, lost=0, crashed=0) adds to the table at the end. lost: data, or a truth (a command that lied).
    crashed: a traceback, a signal or a command that did not end."""

    def add(kind: str, tried: int, lost: int = 0, crashed: int = 0) -> None:
        totals = _KINDS.setdefault(kind, [0, 0, 0])
        for place, number in enumerate((tried, lost, crashed)):
            totals[place] += number

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _KINDS:  # with several workers each has its own, and nothing is printed
        terminalreporter.write_sep("=", "faults")
        terminalreporter.write_line(f"{'tried':>8} {'lost':>8} {'crashed':>8}  kind")
        for kind, totals in _KINDS.items():
            terminalreporter.write_line(f"{totals[0]:8} {totals[1]:8} {totals[2]:8}  {kind}")
