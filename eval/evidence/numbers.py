"""Numbers as text, in the forms that the lab book and the sentences about claims share."""

from typing import Any, Literal

# percent, percents: of shares. points: a difference of shares. tenth: one decimal. scale: three significant digits.
# decimal, share: three decimals below 10. figure: the same, and whole numbers without decimals. text, confused, most: no numbers.
Form = Literal[
    "percent", "percents", "points", "share", "decimal", "tenth", "scale", "count", "figure", "text", "confused", "most"
]  # fmt: skip
MINUS = "\N{MINUS SIGN}"
UNITS = {"percent": " %", "points": " points"}


def number(value: Any, form: Form) -> str:
    """A value with its unit. percents: of several shares. A text stays as it is."""
    if form == "percents":
        return " and ".join(number(share, "percent") for share in value)
    if isinstance(value, str):
        return value
    return bare(value, form) + UNITS.get(form, "")


def bare(value: float, form: Form) -> str:
    """A value without its unit."""
    if form in UNITS:
        text = f"{100 * value:z.1f}"
    elif form == "count":
        text = f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    elif form == "scale":
        text = f"{value:.3g}"
    elif form == "figure" and abs(value) > 1 and value == round(value):
        text = f"{value:.0f}"
    else:
        digits = 3 if form != "tenth" and abs(value) < 10 else 1
        text = f"{value:z.{digits}f}"
    return text.replace("-", MINUS)


def exact(value: float, form: Form) -> str:
    """A number that somebody chose, with its unit and all of its digits."""
    return f"{value * (100 if form in UNITS else 1):.10g}".replace("-", MINUS) + UNITS.get(form, "")


def signed(value: float, form: Form) -> str:
    """A difference with its sign; that of shares in points."""
    text = number(value, "points" if form == "percent" else form)
    return text if value < 0 or not text.strip("0. points") else f"+{text}"


def span(ends: tuple[float, float], form: Form) -> str:
    """An interval, the unit once."""
    return f"{bare(ends[0], form)} to {number(ends[1], form)}"
