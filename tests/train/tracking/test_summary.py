"""What a run's summary has of measurements."""

from train.tracking.summary import scalars, tables

VALUES = {
    "probe/top1": 0.95,
    "probe/top1/interval": [0.92, 0.97],
    "probe/features/top1/interval": None,
    "probe/classes": ["cat", "dog"],
    "probe/counts": [10, 12],
    "probe/explained": [0.5, 0.25, 0.1],
    "probe/pairs": [["cat", "dog", 0.1], ["dog", "cat", 0.2]],
    "probe/empty": [],
    "probe/note": "a text",
    "generate/nearest": 3.5,
}


def test_an_interval_has_two_names_and_lists_have_none() -> None:
    assert scalars(VALUES) == {
        "probe/top1": 0.95,
        "probe/top1/low": 0.92,
        "probe/top1/high": 0.97,
        "probe/note": "a text",
        "generate/nearest": 3.5,
    }


def test_a_number_with_the_name_of_a_panel_has_another() -> None:
    assert scalars({"generate/nearest": 3.5}, {"generate/nearest"}) == {"generate/nearest/value": 3.5}


def test_lists_of_one_length_are_one_table_and_a_list_of_lists_is_its_own() -> None:
    content = tables(VALUES)
    assert {name: table.shape for name, table in content.items()} == {
        "probe/lists/2": (2, 2),
        "probe/lists/3": (3, 1),
        "probe/pairs/rows": (2, 3),
    }
    assert content["probe/lists/2"].to_dict("list") == {"classes": ["cat", "dog"], "counts": [10, 12]}


def test_where_all_lists_have_one_length_the_table_has_a_plain_name() -> None:
    assert list(tables({"probe/classes": ["a"], "probe/counts": [1]})) == ["probe/lists"]
