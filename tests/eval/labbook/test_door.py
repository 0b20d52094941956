"""The front door: where the pages of one study and of several stand, what it links, and what its league says."""

import dataclasses
import html
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import pytest

from eval.evidence.measures import FEATURES, KNN, PROBE
from eval.labbook import door
from eval.labbook.study import Representation, Study
from tests.parts.comparisons import BySeed, comparison_values
from tests.parts.shapes import publish, text
from tests.parts.versions import put
from train.data.scores import Scores
from train.tracking.store import Store, home

MEASURES = (PROBE, FEATURES, KNN)
PIXELS = Representation("pixels", "train.patches --images {images} --kind pixels", "raw pixels", plural=True)
UNTRAINED = Representation("untrained", "train.pretrain --images {images} --epochs 0", "the untrained network")
FIRST = Study(
    "first", "What is first?", "one", (UNTRAINED, PIXELS), ("probe",), MEASURES, (), ("untrained", "pixels"), default=True
)  # fmt: skip
SECOND = dataclasses.replace(
    FIRST, name="second", question="Who is <second>?", subject="two", baselines=(), default=False
)
STUDIES = (FIRST, SECOND)
ONES: Mapping[str, BySeed] = {
    "probe/top1": {
        "untrained": ([0.5], [0.45, 0.55]),
        "pixels": ([0.4], [0.35, 0.45]),
        "one": ([0.75], [0.7, 0.8]),
    }
}
TWOS: Mapping[str, BySeed] = {
    "probe/top1": {"untrained": ([0.5, 0.6], [0.44, 0.66]), "two": ([0.9, 0.8], [0.8, 0.88])},
    "knn/top1": {"two": ([0.7, 0.7], None)},
}
GAPS = {
    ("probe/top1", "one", "untrained"): (0.25, [0.2, 0.3]),
    ("probe/top1", "one", "pixels"): (0.35, [-0.1, 0.8]),
}


def compare(study: Study, measures: Mapping[str, BySeed], dataset: str = "shapes") -> None:
    gaps = GAPS if study is FIRST else {}
    values = comparison_values(measures, gaps) | {"compare/dataset": dataset}
    publish("compare", Scores(values), None, study.fields(dataset))


def report(store: Store, study: Study, dataset: str = "shapes", words: str = "") -> bytes:
    """Publishes a page and puts it in place, as eval.report does."""
    page = f"<html>{study.name} of {dataset} {words}</html>".encode()
    put(store, "report", {"lab-book.html": page}, [study.alias(dataset)], kind="report")
    door.place(store, STUDIES, study, page)
    return page


def both(store: Store) -> tuple[bytes, bytes]:
    compare(FIRST, ONES)
    compare(SECOND, TWOS)
    return report(store, FIRST), report(store, SECOND)


def front() -> str:
    return (home() / "lab-book.html").read_text()


def pages() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home().glob("*lab-book*")}


def links(markup: str) -> dict[str, str]:
    """Where each link leads that leaves the page, by its text."""
    anchors = re.findall(r'<a href="([^#"][^"]*)">(.*?)</a>', markup)
    return {text(words): html.unescape(address) for address, words in anchors}


def section(anchor: str) -> str:
    return front().partition(f'<section id="{anchor}"')[2].partition("</section>")[0]


def rows(markup: str) -> list[list[str]]:
    """What each row of a table says, cell by cell."""
    body = markup.partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        [text(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)] for line in body.split("</tr>")[:-1]
    ]


# -- where the pages stand ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("study", "name"), [(FIRST, "lab-book.html"), (SECOND, "lab-book-second.html")])
def test_the_only_study_has_its_page_and_no_door(store: Store, study: Study, name: str) -> None:
    for words in ("old", "new"):
        page = report(store, study, words=words)
        assert pages() == {name: page}
    other = report(store, study, "letters")
    assert pages() == {name: other}


@pytest.mark.parametrize("order", [STUDIES, STUDIES[::-1]])
def test_with_a_second_study_each_page_has_its_own_name_and_the_door_is_before_them(
    store: Store, order: tuple[Study, ...]
) -> None:
    one, two = (report(store, study) for study in order)
    own = pages()
    assert {name: own[name] for name in own if name != "lab-book.html"} == {order[0].page: one, order[1].page: two}
    addresses = links(front())
    assert addresses["The lab book of first on shapes"] == "lab-book-first.html"
    assert addresses["The lab book of second on shapes"] == "lab-book-second.html"
    new = report(store, FIRST, words="new")
    assert pages()["lab-book-first.html"] == new and pages()["lab-book.html"] != new


def test_pages_of_other_data_sets_are_linked_in_the_store(store: Store) -> None:
    first, _ = both(store)
    letters = report(store, FIRST, "letters")
    addresses = links(front())
    for dataset, page in (("shapes", first), ("letters", letters)):
        assert (home() / unquote(addresses[f"The lab book of first on {dataset}"])).read_bytes() == page
    assert addresses["The lab book of first on letters"] == "lab-book-first.html"


def test_a_page_that_somebody_has_changed_is_linked_in_the_store(store: Store) -> None:
    first, _ = both(store)
    (home() / "lab-book-first.html").write_text("mine")
    report(store, SECOND)
    assert (home() / links(front())["The lab book of first on shapes"]).read_bytes() == first


def test_a_folder_where_the_door_is_to_stand_is_set_aside(store: Store) -> None:
    (home() / "lab-book.html").mkdir()
    both(store)
    assert "League" in front() and (home() / "lab-book.html.damaged").is_dir()


# -- what the door says ------------------------------------------------------------------------------------------------


def test_a_study_has_its_question_and_the_numbers_of_its_subject_beside_the_floors(store: Store) -> None:
    both(store)
    first, second = section("first-shapes"), section("second-shapes")
    assert FIRST.question in text(first) and SECOND.question in text(second)
    assert rows(first) == [
        ["shapes-one", "75.0 % 70.0 to 80.0 %"],
        ["shapes-untrained", "50.0 % 45.0 to 55.0 % worse"],
        ["shapes-pixels", "40.0 % 35.0 to 45.0 % no difference shown"],
    ]
    assert rows(second) == [["shapes-two", "85.0 % ± 7.1 (n = 2) 80.0 to 88.0 %", "70.0 % ± 0.0 (n = 2)"]]


def test_the_league_has_every_representation_once_from_the_study_with_the_most_seeds(store: Store) -> None:
    both(store)
    league = section("league")
    assert [row[:3] for row in rows(league)] == [
        ["shapes-two", "second", "85.0 % ± 7.1 (n = 2) best 80.0 to 88.0 %"],
        ["shapes-one", "first", "75.0 % 70.0 to 80.0 %"],
        ["shapes-untrained", "first , second", "55.0 % ± 7.1 (n = 2) 44.0 to 66.0 %"],
        ["shapes-pixels", "first", "40.0 % 35.0 to 45.0 %"],
    ]
    assert [row[4] for row in rows(league)][-2:] == ["–, not measured", "–, not trained"]


def test_of_as_many_seeds_the_newest_comparison_counts(store: Store) -> None:
    compare(FIRST, ONES)
    compare(SECOND, {"probe/top1": {"untrained": ([0.3], [0.2, 0.4])}})
    report(store, FIRST)
    report(store, SECOND)
    assert ["shapes-untrained", "first , second", "30.0 % 20.0 to 40.0 %"] in [
        row[:3] for row in rows(section("league"))
    ]


def test_best_is_also_what_is_not_shown_to_differ_from_the_best(store: Store) -> None:
    compare(FIRST, ONES)
    report(store, SECOND)
    report(store, FIRST)
    assert [(row[0], "best" in row[2]) for row in rows(section("league"))] == [
        ("shapes-one", True),
        ("shapes-untrained", False),
        ("shapes-pixels", True),
    ]


def test_each_data_set_has_a_league_of_its_own(store: Store) -> None:
    both(store)
    compare(FIRST, ONES, "letters")
    report(store, FIRST, "letters")
    assert re.findall("<h3>(.*?)</h3>", section("league")) == ["letters", "shapes"]


def test_the_page_of_a_set_that_is_called_as_a_study_would_call_it_is_of_that_set(store: Store) -> None:
    both(store)
    report(store, SECOND, "letters")
    compare(FIRST, ONES, "shapes-second")  # takes the second study's aliases over
    report(store, FIRST, "shapes-second")
    assert "The lab book of first on shapes-second" in links(front())
    assert "The lab book of second on shapes" not in links(front())


def test_the_same_artifacts_make_the_same_door_anywhere(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(store)
    before = front()
    report(store, FIRST)
    assert front() == before and str(tmp_path) not in before
    monkeypatch.setenv("PEEL_HOME", str(tmp_path / "elsewhere"))
    both(Store())
    assert front() == before


# -- damage and hostile texts ------------------------------------------------------------------------------------------


def harm(store: Store, name: str, alias: str, path: str) -> None:
    file = store.object(store.files(store.get(name, alias))[path].md5)
    file.chmod(0o644)
    file.write_bytes(b"harmed")


def test_a_comparison_that_is_missing_or_damaged_is_a_line_and_the_rest_stands(store: Store) -> None:
    compare(FIRST, ONES)
    report(store, FIRST)
    report(store, SECOND)
    assert "no artifact 'compare:shapes-second'" in text(section("second-shapes"))
    compare(SECOND, TWOS)
    harm(store, "compare", "shapes-second", "scores.json")
    report(store, SECOND)
    assert "compare:v1 is damaged: scores.json has changed" in text(section("second-shapes"))
    assert len(rows(section("first-shapes"))) == len(rows(section("league"))) == 3
    assert links(front())["The lab book of second on shapes"] == "lab-book-second.html"


def test_a_page_that_is_damaged_has_a_line_and_no_link(store: Store) -> None:
    both(store)
    harm(store, "report", "shapes", "lab-book.html")
    (home() / "lab-book-first.html").unlink()
    report(store, SECOND)
    assert "report:v0 is damaged" in text(section("first-shapes")) and len(rows(section("first-shapes"))) == 3
    assert list(links(section("first-shapes"))) == [] and "lab-book-first.html" not in pages()


def test_a_page_of_a_study_that_is_no_more_is_a_line(store: Store) -> None:
    both(store)
    publish("compare", Scores(comparison_values(TWOS)), None, {"dataset": "shapes", "study": "third"})
    put(store, "report", {"lab-book.html": b"third"}, ["shapes-third"], kind="report")
    report(store, FIRST)
    assert "report:shapes-third: it is of a study that is not in eval/studies/all.py" in text(front())
    assert len(rows(section("first-shapes"))) == 3


def test_a_comparison_of_other_content_is_a_line(store: Store) -> None:
    both(store)
    for content in (b"", b"null", b'{"compare/dataset": 3}', b"[" * 10_000, b'{"probe/top1/shapes-two/mean": "<b>"}'):
        put(store, "compare", {"scores.json": content}, ["shapes-second"], kind="scores")
        report(store, SECOND)
        assert "does not hold what its stage writes" in text(section("second-shapes"))


def test_no_text_of_an_artifact_becomes_markup(store: Store) -> None:
    hostile = "</table><script>window.harmed = 1</script>\"'&"
    both(store)
    compare(SECOND, {"probe/top1": {"two": ([0.9], None), hostile: ([0.5], [0.4, 0.6])}})
    report(store, SECOND)
    put(store, "report", {"lab-book.html": b"x"}, ["odd"], kind="report")
    store._connection.execute("UPDATE aliases SET alias = ? WHERE alias = 'odd'", [hostile])
    report(store, SECOND)
    assert "<script" not in front()
    assert [f"shapes-{hostile}" in row[0] for row in rows(section("league"))].count(True) == 1
    assert hostile in text(front())


def test_the_door_may_run_and_ask_for_nothing(store: Store) -> None:
    both(store)
    rules = html.unescape(re.findall(r'Policy" content="(.*?)"', front())[0])
    assert "default-src 'none'; script-src 'none';" in rules and "<script" not in front()
    assert re.findall(r'(?:src|href)="(?!#|lab-book-)[^"]*"', front()) == []
