"""The answer to each question of a study, filled in from the scores: the verdict, what it rests on, the rule by which its
words are chosen, and the claims about it.

A comparison says better or worse where the 95 % interval of the difference excludes 0 (eval.compare); the other rules
stand below each answer.
"""

from eval.labbook.book import Book
from eval.labbook.chapter import Chapter
from eval.labbook.claims import about
from eval.labbook.markup import Html, join, tag
from eval.labbook.writing import Writer


def answer(book: Book, chapter: Chapter) -> Html:
    """The answer to a chapter's question: verdict, points, gaps, the rule, the claims."""
    writer = Writer(book)
    chapter.answer(writer)
    verdict, points = writer.verdict, writer.sentences
    if not verdict:  # nothing was compared: the first point says most
        verdict, points = points[:1] or [join("Not measured.")], points[1:]
    words = [part for sentence in verdict for part in (sentence, " ")]
    return tag(
        "div",
        tag("h3", "Answer"),
        tag("p", tag("strong", *words[:-1]), class_="finding"),
        tag("ul", *(tag("li", point) for point in points), class_="points") if points else "",
        writer.missing(),
        tag("p", chapter.rule, class_="rule") if chapter.rule and writer.sentences else "",
        about(book, chapter.number),
        class_="answer",
        id=f"answer-{chapter.number}",
    )
