"""What representations have over the floors, for which nothing was learned."""

from collections.abc import Callable, Sequence

from eval.evidence.measures import Measure
from eval.evidence.numbers import signed
from eval.labbook.answers import answer
from eval.labbook.book import Book
from eval.labbook.chapter import Chapter
from eval.labbook.markup import Html, join, tag
from eval.labbook.tables import differences
from eval.labbook.writing import Writer, series

VERSUS = {
    "better": "better than",
    "worse": "worse than",
    "no difference shown": "not shown to differ from",
    "not decided": "not decided against",
}


def floors(book: Book, chapter: Chapter) -> Html:
    """What the study's subject has over every other variant, floors among them."""
    base = book.variant(book.study.subject)
    table = differences(book, base, chapter.measures) if base in book.variants else ""
    return join(tag("p", chapter.question, class_="question"), answer(book, chapter), table)


def against(names: Sequence[str], floors: Sequence[str], among: Sequence[Measure]) -> Callable[[Writer], None]:
    """Writes how representations compare with floors, a point for each representation, of several measures one for each of
    its floors too; the verdict is by the first that the images have."""

    def write(w: Writer) -> None:
        measures = w.book.applicable(among)
        present = [name for name in names if w.has(name)] or list(names[:1])
        ahead = [name for name in present if _compare(w, name, floors, measures)]
        if len(present) > 1:
            whole = series([w.label(name) for name in ahead]) if ahead else "none of them"
            w.conclude(f"Better than every floor by {measures[0].words}: {whole}.")

    return write


def _compare(w: Writer, name: str, floors: Sequence[str], measures: Sequence[Measure]) -> bool:
    """Whether it is better than every floor by the first measure."""
    gaps = {
        floor: {measure: gap for measure in measures if (gap := w.difference(measure, name, floor))} for floor in floors
    }
    first = {floor: gap for floor, by_measure in gaps.items() if (gap := by_measure.get(measures[0]))}
    words = {floor: gap.word(measures[0]) for floor, gap in first.items()}
    if len(measures) > 1:
        for floor, by_measure in gaps.items():
            parts = [f"{m.words} {gap.word(m)} ({signed(gap.value, m.form)})" for m, gap in by_measure.items()]
            if parts:
                w.say(f"Against {w.label(floor)}: {', '.join(parts)}.")
        if words:
            groups = {word: [w.label(floor) for floor in words if words[floor] == word] for word in words.values()}
            outcomes = [f"{VERSUS[word]} {series(labels)}" for word, labels in groups.items()]
            w.conclude(f"{w.label(name)} by {measures[0].words}: {', '.join(outcomes)}.")
    elif words:
        parts = [
            f"{VERSUS[words[floor]]} {w.label(floor)} ({signed(gap.value, measures[0].form)})"
            for floor, gap in first.items()
        ]
        w.say(f"{w.label(name)}: {', '.join(parts)}.")
    return bool(words) and set(words.values()) == {"better"}
