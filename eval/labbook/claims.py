"""The claims of published solutions, each with the verdict that eval.claims gave it and the way to the panels."""

import re
from collections.abc import Sequence
from typing import Any

from eval.labbook.book import Book
from eval.labbook.markup import Html, command, join, panel_id, reference, tag
from eval.labbook.verdicts import needs_labels, reason

FEW = 5  # claims in a footnote that stands open


def table(book: Book) -> Html:
    """How many claims hold, and folded every claim: who makes it, the verdict, why, and where to look. Those that cannot be
    asked of this data set stand below, and are not counted."""
    if book.claims is None:
        return tag("p", "No claim is decided yet. ", command(book.deciding), class_="absent")
    heads = ("No.", "Claim", "By", "Verdict", "Why", "Measured", "Panels")
    why = _reasons(book)
    apart = inapplicable(book)
    counted = [claim for claim in ids(book) if claim not in apart]
    inside = tag(
        "table",
        tag("caption", "Claims and verdicts"),
        tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
        tag("tbody", *(_row(book, claim, why[claim]) for claim in counted)),
        class_="claims sortable",
    )
    box = tag("div", inside, class_="box", tabindex=0, role="region", aria_label="Claims and verdicts")
    verdicts = [str(_of(book, claim, "verdict")) for claim in counted]
    tally = ", ".join(f"{verdicts.count(name)} {name}" for name in ("holds", "does not hold", "not decided"))
    notes = [
        tag("li", f"{_of(book, claim, 'text')} ({source(book, claim)}): ", reason, ".", id=f"claim-{claim}")
        for claim, reason in apart.items()
    ]
    return join(
        tag("p", f"Verdicts on {len(counted)} claims: {tally}.", class_="tally"),
        tag("details", tag("summary", "Every claim, its verdict and why"), box, open=True),
        _footnote(book, notes),
    )


def _footnote(book: Book, notes: Sequence[Html]) -> Html:
    """Folded where there are many, as of unlabeled images."""
    if not notes:
        return join()
    head = tag("summary", f"Not asked of {book.dataset}: {len(notes)} claim{'s' * (len(notes) > 1)}")
    return tag("div", tag("details", head, tag("ul", *notes), open=len(notes) <= FEW), class_="footnote")


def about(book: Book, question: int) -> Html:
    """The claims that belong to a question, in a line each; nothing where there are none."""
    apart = inapplicable(book)
    own = [claim for claim in ids(book) if _of(book, claim, "question") == question and claim not in apart]
    if not own:
        return join()
    items = [
        tag("li", verdict(_of(book, claim, "verdict")), " ", tag("a", _of(book, claim, "text"), href=f"#claim-{claim}"),
            f" ({source(book, claim)})")
        for claim in own
    ]  # fmt: skip
    return tag("ul", *items, class_="claims", aria_label="Claims about this question")


def ids(book: Book) -> list[str]:
    names = book.claims.scores.values.get("claims/ids") if book.claims else None
    return [str(claim) for claim in names] if isinstance(names, list) else []


def inapplicable(book: Book) -> dict[str, Html]:
    """The claims about what the data set does not have, and what that is."""
    reasons = {}
    for claim, (rule, decision) in book.decisions.items():
        if not decision.applicable:
            reasons[claim] = reason(book, rule, decision)
        elif needs_labels(book, decision):
            reasons[claim] = join("the images are unlabeled")
    return reasons


def source(book: Book, claim: str) -> str:
    """Who makes it, and which number: `solution A: 72 %, solution B: 62.7 %`."""
    text = str(_of(book, claim, "who"))
    names = book.study.sources
    if not names:
        return text
    short = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, names))})(?![\w.])")
    return re.sub(r"\d*\.\d+", _rounded, short.sub(lambda match: names[match[1]], text))


def _rounded(match: re.Match[str]) -> str:
    """A number as the page writes it: a percentage with one decimal, a share with three."""
    value = float(match[0])
    return f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def _reasons(book: Book) -> dict[str, Html]:
    """Why each verdict is what it is: in the page's words, or as it was published with a comparison that is not this page's."""
    plain = {claim: reason(book, *pair) for claim, pair in book.decisions.items()}
    return {claim: plain.get(claim) or join(str(_of(book, claim, "why"))) for claim in ids(book)}


def verdict(text: str) -> Html:
    return tag("span", text, class_="verdict", data_verdict=text.replace(" ", "-"))


def _of(book: Book, claim: str, field: str) -> Any:
    assert book.claims is not None
    value = book.claims.scores.values.get(f"claims/{claim}/{field}")
    return "" if value is None else value


def _row(book: Book, claim: str, why: Html) -> Html:
    number = _of(book, claim, "number")
    panels = [part for text in _of(book, claim, "panels") for part in (" ", _panel(book, str(text)))][1:]
    return tag(
        "tr",
        tag("td", str(number or "–"), data_value=number or None),
        tag("th", str(_of(book, claim, "text")), scope="row"),
        tag("td", source(book, claim)),
        tag("td", verdict(str(_of(book, claim, "verdict")))),
        tag("td", why),
        tag("td", str(_of(book, claim, "measured"))),
        tag("td", *panels, class_="panels"),
        id=f"claim-{claim}",
    )


def _panel(book: Book, text: str) -> Html:
    """`project:VARIANT#project/pca` as a link to the figure where it stands on the page, else as it is."""
    artifact, _, path = text.partition("#")
    name, _, alias = artifact.partition(":")
    variant = alias.removesuffix(f"-vs-{book.anomalies}") if name == "anomaly" else alias
    if not book.shows(name, variant, path):
        return reference(text)
    return tag("a", f"{path} of {variant}", href=f"#{panel_id(name, variant, path)}", data_shows=variant)
