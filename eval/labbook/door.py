"""The front door of a home with several studies: a page that links theirs, and a league of all their representations.

It reads the newest version of every `report` and `compare` and computes nothing. A home with one study has no door.
"""

import contextlib
import os
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from eval.evidence.comparison import Comparison, Difference, Estimate
from eval.evidence.measures import FEATURES, INSTANCES, KNN, PROBE, Measure
from eval.labbook.estimates import leaders
from eval.labbook.markup import Html, join, reference, tag
from eval.labbook.page import file, policy, section
from eval.labbook.study import Study, absent
from eval.labbook.tables import UNIT, box, missing_cell, row, value_bar, value_cell, verdict
from train.data.images import Images
from train.tracking.problem import Problem, one_line, set_aside
from train.tracking.store import Store, hash_file, home, write_whole
from train.tracking.store.records import Version

PAGE = (
    "lab-book.html"  # the file in a report; in PEEL_HOME the door, or the default study's page where no other has one
)
LEAGUE = (PROBE, FEATURES, KNN, INSTANCES)


@dataclass(frozen=True)
class Entry:
    """A study of one data set. report: the newest version of its page. comparison: None where there is none, or none that
    can be read. faults: a line on each of those. labeled: whether the images are, True where they are not here."""

    study: Study
    dataset: str
    report: Version
    comparison: Comparison | None
    faults: tuple[str, ...] = ()
    labeled: bool = True

    @property
    def anchor(self) -> str:
        return f"{self.study.name}-{self.dataset}"

    @property
    def alias(self) -> str:
        return self.study.alias(self.dataset)

    @property
    def variants(self) -> tuple[str, ...]:
        """Those that it compares."""
        return self.comparison.variants if self.comparison else ()

    def estimate(self, measure: Measure, variant: str) -> Estimate | None:
        return self.comparison.estimate(measure.path, variant) if self.comparison and measure.compared else None

    def chance(self, measure: Measure, variant: str) -> float | None:
        """What knowing nothing would give."""
        if not isinstance(measure.mark, str):
            return measure.mark
        mean = self.comparison.estimate(measure.mark, variant) if self.comparison else None
        return mean.value if mean else None

    def missing(self, measure: Measure, variant: str) -> str:
        """In a word or two why it has no value."""
        representation = self.study.nearest(variant.removeprefix(f"{self.dataset}-"))
        reason = representation and absent(measure.artifact, representation.stage, self.labeled)
        return reason or ("not measured" if measure.applies(self.labeled) else "unlabeled")


def place(store: Store, studies: Sequence[Study], study: Study, page: bytes) -> Path:
    """Puts a study's page where it is looked for, in PEEL_HOME, and makes the door anew where several studies have one.
    Returns the page's path. studies: all that there are, in the order shown."""
    entries, faults = read(store, studies)
    owners = {entry.study.name: entry.study for entry in entries}
    if not owners.keys() - {study.name}:
        return _write(PAGE if study.default else study.page, page)
    target = _write(study.page, page)
    for owner in owners.values():
        if not (home() / owner.page).exists():  # as that of the study that was alone before
            newest = max((entry for entry in entries if entry.study is owner), key=lambda entry: entry.report.id)
            if content := _content(store, newest.report):
                _write(owner.page, content.read_bytes())
    _write(PAGE, render(entries, faults, lambda entry: address(store, entry)).encode())
    return target


def _write(name: str, content: bytes) -> Path:
    target = home() / name
    if target.is_dir():
        print(f"{target} is a folder; it is now {set_aside(target)}")
    write_whole(target, content)
    return target


# -- what is there -----------------------------------------------------------------------------------------------------


def read(store: Store, studies: Sequence[Study]) -> tuple[list[Entry], list[str]]:
    """Every study and data set that has a page, in the order of `studies`; and a line on each page that is of none."""
    entries, faults = [], []
    for version in store.versions("report"):
        for alias in version.aliases:
            if alias != "latest":
                try:
                    entries.append(_entry(store, studies, version, alias))
                except Problem as problem:
                    faults.append(f"report:{alias}: {problem}")
    return sorted(entries, key=lambda entry: (studies.index(entry.study), entry.dataset)), sorted(faults)


def _entry(store: Store, studies: Sequence[Study], version: Version, alias: str) -> Entry:
    """Raises Problem where no study has such an alias."""
    comparison, faults = None, []
    try:
        comparison = Comparison.load(store.folder(store.get("compare", alias, "Make the study again.")))
    except Problem as problem:
        faults.append(one_line(problem))
    candidates = []
    for study in studies:
        dataset = alias if study.default else alias.removesuffix(f"-{study.name}")
        if dataset and study.alias(dataset) == alias and (comparison is None or comparison.dataset == dataset):
            candidates.append((study, dataset))
    if not candidates:
        raise Problem("it is of a study that is not in eval/studies/all.py")
    study, dataset = min(candidates, key=lambda candidate: len(candidate[1]))
    if _content(store, version) is None:
        faults.append(f"{version.reference} is damaged; make its study again")
    return Entry(study, dataset, version, comparison, tuple(faults), _labeled(store, dataset))


def _labeled(store: Store, dataset: str) -> bool:
    with contextlib.suppress(Problem):
        if images := store.find("images", dataset):
            return Images.load(store.folder(images)).labeled
    return True


def _content(store: Store, version: Version) -> Path | None:
    """The page of a report in the store; None where it is damaged."""
    try:
        page = store.folder(version) / PAGE
    except Problem:
        return None
    return page if page.is_file() else None


def address(store: Store, entry: Entry) -> str | None:
    """Where the page is, from PEEL_HOME: the study's own where that is of this data set, else the store's; None where it is
    damaged."""
    own = home() / entry.study.page
    content = store.files(entry.report).get(PAGE)
    with contextlib.suppress(Problem):  # it cannot be read
        if content and own.is_file() and hash_file(own) == content.md5:
            return quote(own.name)
    page = _content(store, entry.report)
    return quote(Path(os.path.relpath(page, home())).as_posix()) if page else None


# -- the page ----------------------------------------------------------------------------------------------------------


def render(entries: Sequence[Entry], faults: Sequence[str], address: Callable[[Entry], str | None]) -> str:
    """The page. faults: a line on each page that is of no study. address: of an entry's page."""
    addresses = {entry.anchor: address(entry) for entry in entries}
    links = [(entry.anchor, f"{entry.study.name}, {entry.dataset}") for entry in entries] + [("league", "League")]
    return string.Template(file("door.html")).substitute(
        policy=policy(),
        style=file("style.css"),
        contents=join(*(tag("li", tag("a", text, href=f"#{anchor}")) for anchor, text in links)),
        faults=_lines(faults),
        studies=join(*(_study(entry, addresses[entry.anchor]) for entry in entries)),
        league=_league(entries, addresses),
    )


def _lines(faults: Sequence[str]) -> Html:
    return join(*(tag("p", fault, class_="absent", role="note") for fault in faults))


def _link(text: str, address: str | None) -> Html:
    return tag("a", text, href=address) if address else join(text)


def _study(entry: Entry, address: str | None) -> Html:
    """Its question, the way to its page, and its numbers."""
    parts = [
        tag("p", entry.study.question, class_="question"),
        tag("p", _link(f"The lab book of {entry.study.name} on {entry.dataset}", address), class_="facts"),
        _lines(entry.faults),
        _headlines(entry),
        tag("p", reference(f"report:{entry.alias}"), " · ", reference(f"compare:{entry.alias}"), class_="source"),
    ]
    return section(entry.anchor, f"{entry.study.name}, {entry.dataset}", join(*parts))


def _headlines(entry: Entry) -> Html:
    """The subject's row and those of its floors, in the columns of the study's first table."""
    comparison = entry.comparison
    if comparison is None:
        return join()
    subject, *floors = map(comparison.full, (entry.study.subject, *entry.study.baselines))
    measures = [measure for measure in entry.study.summary if entry.estimate(measure, subject)]
    if not measures:
        return _lines([f"compare:{entry.alias} has no numbers of {subject}"])
    rows = []
    for variant in (subject, *(floor for floor in floors if floor in comparison.variants)):
        cells = []
        for measure in measures:
            gap = comparison.difference(measure.path, variant, subject) if variant != subject else None
            mean = entry.estimate(measure, variant)
            cells.append(
                value_cell(measure, mean, False, verdict(gap, measure) if gap else "")
                if mean
                else missing_cell(entry.missing(measure, variant))
            )
        rows.append(row(variant, cells))
    title = f"{subject} beside its floors"
    heads = ["Variant", *(measure.label for measure in measures)]
    return box(title, heads, rows, "numbers", [measure.about for measure in measures])


def _league(entries: Sequence[Entry], addresses: Mapping[str, str | None]) -> Html:
    """A table for each data set."""
    datasets = dict.fromkeys(entry.dataset for entry in entries if entry.comparison)
    tables = []
    for dataset in datasets:
        table = _ranking(dataset, [entry for entry in entries if entry.dataset == dataset], addresses)
        tables.append(tag("div", tag("h3", dataset), table, class_="row"))
    return join(*tables)


def _ranking(dataset: str, entries: Sequence[Entry], addresses: Mapping[str, str | None]) -> Html:
    """Every variant once, the best first by the first measure."""
    measures = [measure for measure in LEAGUE if measure.applies(entries[0].labeled)]
    variants = list(dict.fromkeys(chain.from_iterable(entry.variants for entry in entries)))
    bests: dict[str, dict[str, tuple[Entry, Estimate]]] = {}
    winners: dict[str, set[str]] = {}
    for measure in measures:
        pairs = {variant: _surest(entries, measure, variant) for variant in variants}
        bests[measure.path] = present = {variant: pair for variant, pair in pairs.items() if pair}
        means = {variant: mean for variant, (_, mean) in present.items()}
        winners[measure.path] = leaders(measure, means, _differences(entries, measure))
    first = {variant: mean.value for variant, (_, mean) in bests[measures[0].path].items()}
    rows = []
    for variant in sorted(variants, key=lambda variant: (-first.get(variant, float("-inf")), variant)):
        owners = [entry for entry in entries if variant in entry.variants]
        links = [_link(entry.study.name, addresses[entry.anchor]) for entry in owners]
        cells = [tag("td", *[part for link in links for part in (", ", link)][1:])]
        for measure in measures:
            if pair := bests[measure.path].get(variant):
                entry, mean = pair
                bar = value_bar(mean, UNIT, entry.chance(measure, variant))
                cells.append(value_cell(measure, mean, variant in winners[measure.path], bar))
            else:
                cells.append(missing_cell(owners[0].missing(measure, variant)))
        rows.append(row(variant, cells))
    heads = ["Variant", "Studies", *(measure.label for measure in measures)]
    return box(f"League of {dataset}", heads, rows, "numbers", ["", *(measure.about for measure in measures)])


def _surest(entries: Sequence[Entry], measure: Measure, variant: str) -> tuple[Entry, Estimate] | None:
    """The estimate over the most seeds, of those over as many that of the newest page; None where there is none."""
    pairs = [(entry, mean) for entry in entries if (mean := entry.estimate(measure, variant))]
    return max(pairs, key=lambda pair: (pair[1].n, pair[0].report.id), default=None)


def _differences(entries: Sequence[Entry], measure: Measure) -> Callable[[str, str], Difference | None]:
    """Of two variants, in the first study that compared them."""

    def difference(one: str, other: str) -> Difference | None:
        gaps = (entry.comparison.difference(measure.path, one, other) for entry in entries if entry.comparison)
        return next(filter(None, gaps), None)

    return difference
