"""The answer to each question of the exercise, filled in from the scores, the rule by which its words are chosen, and the
claims about it.

A comparison says better or worse where the 95 % interval of the difference excludes 0 (eval.compare); the other rules
stand below each answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eval.labbook import part_one, part_two
from eval.labbook.book import Book
from eval.labbook.claims import about
from eval.labbook.estimates import SUMMARY
from eval.labbook.markup import Html, join, tag
from eval.labbook.tables import differences
from eval.labbook.writing import FULL, Writer


@dataclass(frozen=True)
class Rule:
    """write: says what the scores say. text: by which rule, for the reader."""

    write: Callable[[Writer], None]
    text: str = ""


def answer(book: Book, question: int) -> Html:
    """The answer to a question of the exercise, 1 to 13, or about the floors, 0: sentences, gaps, the rule, the claims."""
    rule = RULES[question]
    writer = Writer(book)
    rule.write(writer)
    sentences = [part for sentence in writer.sentences for part in (sentence, " ")] or ["Not measured."]
    return tag(
        "div",
        tag("h3", "Answer"),
        tag("p", *sentences),
        writer.missing(),
        tag("p", rule.text, class_="rule") if rule.text and writer.sentences else "",
        about(book, question),
        class_="answer",
        id=f"answer-{question}",
    )


def floors(book: Book) -> Html:
    """What VICReg has over every other variant, floors among them."""
    base = book.variant(FULL)
    question = "What does VICReg have over each other variant, and above all over those that nothing was learned for?"
    shown = differences(book, base, SUMMARY) if base in book.variants else ""
    return join(tag("p", question, class_="question"), shown, answer(book, 0))


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


RULES: Mapping[int, Rule] = {
    0: Rule(part_two.floors),
    1: Rule(
        part_one.training,
        "A term rises or falls by the mean of the last tenth of its batches less that of the first; over several seeds,"
        " by more than their standard deviation.",
    ),
    2: Rule(
        part_one.maps,
        "The more useful map is the one with the higher class purity, where the interval of their difference excludes 0."
        f" Captured: mostly from a purity of the t-SNE map of {_percent(part_one.MOSTLY)} on, in part from"
        f" {_percent(part_one.PARTLY)} on.",
    ),
    3: Rule(part_one.probe, f"{_percent(part_one.ASKED)} are reached where the whole interval lies at or above them."),
    4: Rule(
        part_one.no_variance,
        f"Collapsed: at most {_percent(part_one.COLLAPSED)} of the full effective rank; or {_percent(part_one.COLLAPSED)}"
        " of the variance and more on the first PCA axis, where the full one has less. The picture agrees where a collapse"
        " and a worse probe come together, or neither.",
    ),
    5: Rule(part_one.no_generated_neighbors),
    6: Rule(part_one.eigenmaps),
    7: Rule(part_one.retrieval),
    8: Rule(part_two.anomaly_detection, "Apart: the whole interval of the AUC lies above one half."),
    9: Rule(part_two.roc),
    10: Rule(
        part_two.most_anomalous,
        f"Near-duplicates: their mean pixel distance is at most {part_two.DUPLICATES:g} of that of random images of the"
        " same sets.",
    ),
    11: Rule(part_two.clustering),
    12: Rule(part_two.cluster_maps),
    13: Rule(
        part_two.silhouette,
        "It agrees where the silhouette and the class purity of the t-SNE map put the same method first.",
    ),
}
