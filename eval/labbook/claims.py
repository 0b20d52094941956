"""The claims of published solutions, each with the verdict that eval.claims gave it and the way to the panels."""

from typing import Any

from eval.labbook.book import Book
from eval.labbook.markup import Html, command, join, panel_id, reference, tag


def table(book: Book) -> Html:
    """Every claim: who makes it, the verdict, why, and where to look."""
    if book.claims is None:
        return tag("p", "No claim is decided yet. ", command(book.deciding), class_="absent")
    heads = ("No.", "Claim", "By", "Verdict", "Why", "Measured", "Panels")
    rows = [_row(book, claim) for claim in ids(book)]
    inside = tag(
        "table",
        tag("caption", "Claims and verdicts"),
        tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
        tag("tbody", *rows),
        class_="claims sortable",
    )
    tally = ", ".join(f"{count} {verdict}" for verdict, count in _tally(book).items())
    return join(
        tag("p", f"Verdicts on {len(rows)} claims: {tally}.", class_="tally"),
        tag("div", inside, class_="box", tabindex=0, role="region", aria_label="Claims and verdicts"),
    )


def about(book: Book, question: int) -> Html:
    """The claims that belong to a question, in a line each; nothing where there are none."""
    own = [claim for claim in ids(book) if _of(book, claim, "question") == question]
    if not own:
        return join()
    items = [
        tag("li", verdict(_of(book, claim, "verdict")), " ", tag("a", _of(book, claim, "text"), href=f"#claim-{claim}"),
            f" ({_of(book, claim, 'who')})")
        for claim in own
    ]  # fmt: skip
    return tag("ul", *items, class_="claims", aria_label="Claims about this question")


def ids(book: Book) -> list[str]:
    names = book.claims.scores.values.get("claims/ids") if book.claims else None
    return [str(claim) for claim in names] if isinstance(names, list) else []


def verdict(text: str) -> Html:
    return tag("span", text, class_="verdict", data_verdict=text.replace(" ", "-"))


def _of(book: Book, claim: str, field: str) -> Any:
    assert book.claims is not None
    value = book.claims.scores.values.get(f"claims/{claim}/{field}")
    return "" if value is None else value


def _row(book: Book, claim: str) -> Html:
    number = _of(book, claim, "number")
    panels = [part for text in _of(book, claim, "panels") for part in (" ", _panel(book, str(text)))][1:]
    return tag(
        "tr",
        tag("td", str(number or "–"), data_value=number or None),
        tag("th", str(_of(book, claim, "text")), scope="row"),
        tag("td", str(_of(book, claim, "who"))),
        tag("td", verdict(str(_of(book, claim, "verdict")))),
        tag("td", str(_of(book, claim, "why"))),
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


def _tally(book: Book) -> dict[str, int]:
    verdicts = [str(_of(book, claim, "verdict")) for claim in ids(book)]
    return {verdict: verdicts.count(verdict) for verdict in ("holds", "does not hold", "not decided")}
