"""HTML built from values: text is escaped unless it is markup already."""

import html
import json
import re
from typing import Any


class Html(str):
    """Markup, which goes into other markup as it is."""


def escape(text: str) -> Html:
    return text if isinstance(text, Html) else Html(html.escape(text))


def join(*parts: str) -> Html:
    return Html("".join(escape(part) for part in parts))


def unbroken(markup: Html) -> Html:
    """With no line break between a number and its unit."""
    return Html(re.sub(r"(?<=\d) (?=%|points\b)", "\N{NO-BREAK SPACE}", markup))


def tag(element: str, *children: str, **attributes: str | int | float | bool | None) -> Html:
    """`<element attributes>children</element>`. class_ is `class`, data_row is `data-row`; True is a bare attribute,
    None and False leave it out."""
    text = ""
    for name, value in attributes.items():
        if value is not None and value is not False:
            name = name.rstrip("_").replace("_", "-")
            text += f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
    return Html(f"<{element}{text}>{join(*children)}" + ("" if element in ("img", "br") else f"</{element}>"))


def data(value: Any, **attributes: str) -> Html:
    """`value` as JSON in a script element that no browser runs, and that no text in it can end."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return tag("script", Html(text), type="application/json", **attributes)


def reference(text: str) -> Html:
    """An artifact as one asks for it: `probe:VARIANT`."""
    return tag("code", text, class_="reference")


def command(text: str) -> Html:
    """What a person can type."""
    return tag("code", text, class_="command")


def panel_id(artifact: str, variant: str, path: str) -> str:
    """Where a panel of a variant stands on the page."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"panel-{artifact}-{variant}-{path}")
