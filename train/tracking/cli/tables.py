"""The answers of the command line as a person reads them: lines of text."""

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from train.tracking.declarations import listing
from train.tracking.store.records import Version

Data = dict[str, Any]  # what --json prints


def versions(entries: Sequence[Data]) -> list[str]:
    """One line a version."""
    rows = [
        [entry["reference"], size(entry["size"]), _age(entry["created"]), _maker(entry), _inputs(entry),
         ", ".join(entry["aliases"]) or "-"]
        for entry in entries
    ]  # fmt: skip
    return _table(["VERSION", "SIZE", "AGE", "MADE BY", "FROM", "ALIASES"], rows, right={1, 2})


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
        "",
        "Made from",
        *(_table(["REQUEST", "VERSION", "DIGEST"], sources) or ["  nothing"]),
        "",
        "Read by",
        *(_table(["STAGE", "RUN", "MADE"], readers) or ["  nothing"]),
        "",
        "Files",
        *_table(["PATH", "SIZE", "MD5"], files, right={1}),
    ]


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
    return _table(["VERSION", "DIGEST", "MADE BY", "ALIASES"], rows)


def garbage(data: Data, superseded: Sequence[Version]) -> list[str]:
    """What can go or has gone: the kinds, below the first of them its versions, and the sum."""
    rows = [[kind["kind"], str(kind["count"]), size(kind["size"])] for kind in data["kinds"] if kind["count"]]
    if not rows:
        return ["nothing to free"]
    table = _table(["WHAT", "COUNT", "SIZE"], rows, right={1, 2})
    if superseded:  # they are the first kind
        table[2:2] = [f"  {version.reference}, {_age(version.created)} old" for version in superseded]
    files = count(len(data["paths"]), "file or folder", "files and folders")
    total = f"{size(data['size'])}: {count(len(superseded), 'version')}, {files}"
    return [*table, f"freed {total}" if data["freed"] else f"would free {total}; add --yes to free it"]


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


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
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
