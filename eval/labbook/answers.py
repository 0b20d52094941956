"""The answer to each question of a study, filled in from the scores, the rule by which its words are chosen, and the claims
about it.

A comparison says better or worse where the 95 % interval of the difference excludes 0 (eval.compare); the other rules
stand below each answer.
"""

from eval.labbook.book import Book
from eval.labbook.chapter import Chapter
from eval.labbook.claims import about
from eval.labbook.markup import Html, join, tag
from eval.labbook.tables import differences
from eval.labbook.writing import Writer


def answer(book: Book, chapter: Chapter) -> Html:
    """The answer to a chapter's question: sentences, gaps, the rule, the claims."""
    writer = Writer(book)
    chapter.answer(writer)
    sentences = [part for sentence in writer.sentences for part in (sentence, " ")] or ["Not measured."]
    return tag(
        "div",
        tag("h3", "Answer"),
        tag("p", *sentences),
        writer.missing(),
        tag("p", chapter.rule, class_="rule") if chapter.rule and writer.sentences else "",
        about(book, chapter.number),
        class_="answer",
        id=f"answer-{chapter.number}",
    )


def floors(book: Book, chapter: Chapter) -> Html:
    """What the study's subject has over every other variant, floors among them."""
    base = book.variant(book.study.subject)
    table = differences(book, base, chapter.measures) if base in book.variants else ""
    return join(tag("p", chapter.question, class_="question"), table, answer(book, chapter))
