"""The answers of the command line as a person reads them: lines of text."""

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from train.tracking.declarations import listing
from train.tracking.store.records import Version
from train.tracking.summary import INTERVAL

Data = dict[str, Any]  # what --json prints

MOST = 40  # measures of one version
VERDICT = "/verdict"
# Behind a measure's path in a comparison: what stands for it, and what belongs to it.
NUMBER, BESIDE = ("", "/mean", "/difference"), ("/spread", "/n")


def versions(entries: Sequence[Data]) -> list[str]:
    """One line a version."""
    rows = [
        [entry["reference"], size(entry["size"]), _age(entry["created"]), _maker(entry), _inputs(entry),
         ", ".join(entry["aliases"]) or "-"]
        for entry in entries
    ]  # fmt: skip
    return table(["VERSION", "SIZE", "AGE", "MADE BY", "FROM", "ALIASES"], rows, right={1, 2})


def version(entry: Data, inputs: Mapping[str, Version | None]) -> list[str]:
    """Everything about one version. inputs: as asked for -> what was there."""
    date = datetime.fromtimestamp(entry["created"]).isoformat(" ", "seconds")
    facts = {
        "type": entry["type"],
        "aliases": ", ".join(entry["aliases"]) or "none (superseded)",
        "digest": entry["digest"],
        "size": f"{size(entry['size'])} in {count(len(entry['files']), 'file')}",
        "made": f"{date}, {_age(entry['created'])} ago",
    }
    if entry["run"]:
        facts |= {"finding": entry["finding"]} if entry["finding"] else {}
        facts |= {
            "by": f"{_maker(entry)}, in {entry['seconds']:.1f} s",
            "code": entry["revision"],
            "run": f"{entry['run']}  {entry['record'] or ''}".strip(),
            "config": " ".join(f"{key}={value}" for key, value in entry["config"].items()) or "-",
        }
    sources = [
        [request, source.reference, source.digest] if source else [request, "did not exist", "-"]
        for request, source in inputs.items()
    ]
    readers = [[_maker(reader), reader["run"], ", ".join(reader["made"]) or "-"] for reader in entry["readers"]]
    files = [[file["path"], size(file["size"]), file["md5"]] for file in entry["files"]]
    return [
        entry["reference"],
        *(f"  {key:<8} {value}" for key, value in facts.items()),
        *(["", "Numbers", *numbers(entry["numbers"])] if entry["numbers"] else []),
        "",
        "Made from",
        *(table(["REQUEST", "VERSION", "DIGEST"], sources) or ["  nothing"]),
        "",
        "Read by",
        *(table(["STAGE", "RUN", "MADE"], readers) or ["  nothing"]),
        "",
        "Files",
        *table(["PATH", "SIZE", "MD5"], files, right={1}),
    ]


def numbers(values: Mapping[str, Any]) -> list[str]:
    """The measures of a scores artifact: first those with an interval or a verdict, then other numbers, 40 in all."""
    main: dict[str, list[str]] = {}
    used = set()
    for key in values:
        name, _, kind = key.rpartition("/")
        if f"/{kind}" in (INTERVAL, VERDICT):
            value = next((values[name + end] for end in NUMBER if _is_number(values.get(name + end))), None)
            verdict = values.get(name + VERDICT)
            main[name] = [_figure(value), _span(values.get(name + INTERVAL)), str(verdict or "")]
            used |= {name + end for end in (*NUMBER, *BESIDE)}
    rest = [[key, _figure(value), "", ""] for key, value in values.items() if key not in used and _is_number(value)]
    rows = [*([name, *cells] for name, cells in main.items()), *rest]
    header = ["MEASURE", "VALUE", "95 % INTERVAL", "VERDICT"]
    kept = [i for i in range(4) if i < 2 or any(row[i] for row in rows)]
    cells = [[row[i] if row[i].isprintable() else repr(row[i]) for i in kept] for row in rows[:MOST]]
    lines = table([header[i] for i in kept], cells, right={1})
    return [*lines, *([f"and {len(rows) - MOST} more (--json has all)"] if len(rows) > MOST else [])]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _span(ends: Any) -> str:
    """An interval; nothing where there is none."""
    whole = isinstance(ends, list) and len(ends) == 2 and all(map(_is_number, ends))
    return f"{_figure(ends[0])} to {_figure(ends[1])}" if whole else ""


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def tree(graph: Data) -> list[str]:
    """A lineage: below each version what it was made from. What stands further up already is not unfolded again."""
    nodes = {node["reference"]: node for node in graph["nodes"]}
    rows: list[list[str]] = []
    references = set()  # that stand in full

    def grow(reference: str, stem: str, branch: str) -> None:
        """stem: what stands before the branches of this version; branch: what joins it to its own stem."""
        node = nodes[reference]
        first = [branch + reference, node["digest"]]
        if reference in references:
            rows.append([*first, "(above)", ""])
            return
        references.add(reference)
        rows.append([*first, _maker(node), ", ".join(node["aliases"]) or "-"])
        inputs = [edge["from"] for edge in graph["edges"] if edge["to"] == reference]
        for i, source in enumerate(inputs):
            last = i == len(inputs) - 1
            grow(source, stem + ("   " if last else "│  "), stem + ("└─ " if last else "├─ "))

    grow(graph["root"], "", "")
    return table(["VERSION", "DIGEST", "MADE BY", "ALIASES"], rows)


def garbage(data: Data, superseded: Sequence[Version]) -> list[str]:
    """What can go or has gone: the kinds, below the first of them its versions, and the sum."""
    rows = [[kind["kind"], str(kind["count"]), size(kind["size"])] for kind in data["kinds"] if kind["count"]]
    if not rows:
        return ["nothing to free"]
    lines = table(["WHAT", "COUNT", "SIZE"], rows, right={1, 2})
    if superseded:  # they are the first kind
        lines[2:2] = [f"  {version.reference}, {_age(version.created)} old" for version in superseded]
    files = count(len(data["paths"]), "file or folder", "files and folders")
    total = f"{size(data['size'])}: {count(len(superseded), 'version')}, {files}"
    return [*lines, f"freed {total}" if data["freed"] else f"would free {total}; add --yes to free it"]


def size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def count(number: int, what: str, many: str = "") -> str:
    return f"{number} {what if number == 1 else many or f'{what}s'}"


def _age(created: float) -> str:
    seconds = max(0.0, time.time() - created)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _maker(entry: Data) -> str:
    return " ".join(filter(None, (entry["stage"], entry["variant"]))) or "-"


def _inputs(entry: Data) -> str:
    references = {reference for reference in entry["inputs"].values() if reference}
    return listing(references, most=3) if references else "-"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Aligned columns, those in `right` to the right; nothing where there are no rows."""
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]
