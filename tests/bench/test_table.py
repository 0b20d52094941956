"""The benchmark's table: what it calls met, and that both sides of a ratio are measured."""

from tests.bench.table import Row, ratios, side_by_side, table


def test_a_limit_is_held_against_the_median_and_a_row_without_one_is_only_reported() -> None:
    assert Row("a", (0.5, 1.0, 9.0), "x", (">=", 1)).met is True
    assert Row("a", (0.5, 0.9, 9.0), "x", (">=", 1)).met is False
    assert Row("a", (0.5, 1.0, 9.0), "s", ("<=", 1)).met is True
    assert Row("a", (0.5, 1.1, 9.0), "s", ("<=", 1)).met is False
    assert Row("a", (1.0,), "s").met is None


def test_the_table_shows_median_spread_count_limit_and_what_was_missed() -> None:
    lines = table([Row("slow", (1.0, 3.0, 2.0), "x", (">=", 4), "why"), Row("told", (7.0,), "s")]).splitlines()
    assert lines[1].split() == ["slow", "2", "x", "1", "to", "3", "3", ">=", "4", "NO", "why"]
    assert lines[2].split() == ["told", "7", "s", "1"]


def test_both_sides_take_turns_after_one_that_is_not_measured() -> None:
    turns: list[str] = []
    ours, theirs = side_by_side(lambda: turns.append("ours"), lambda: turns.append("theirs"), 3)
    assert turns == ["ours", "theirs"] * 4
    assert (len(ours), len(theirs)) == (3, 3)
    assert ratios([6.0, 4.0], [2.0, 4.0]) == (3.0, 1.0)
