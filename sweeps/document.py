"""A sweep file's YAML as W&B reads it, and beside it the words that stand there: YAML makes 8 of 010, and true of on.

What is read is bounded: a file in which anchors name anchors would not end otherwise.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from train.tracking import Problem
from train.tracking.problem import one_line

LARGEST = 256_000  # bytes of a file
MOST = 50_000  # values in it, each as often as anchors repeat it
DEEPEST = 20  # levels


@dataclass(frozen=True)
class Document:
    """written: what `content` is, with each value as its text in the file."""

    content: Any
    written: Any


def load(file: Path) -> Document:
    """Raises Problem, one line, where the file is no YAML or is beyond the bounds."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(LARGEST + 1)
    except OSError as error:
        raise Problem(f"cannot read {file}: {error.strerror}; give the path of a sweep file") from error
    if len(raw) > LARGEST:
        raise Problem(f"{file} is larger than {LARGEST // 1000} kB, and no sweep file; give the path of one")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Problem(f"{file} is not UTF-8 (byte {error.start + 1}); save it as UTF-8") from error
    try:
        return parse(text)
    except Problem as problem:
        raise Problem(f"{file} {problem}") from None


def parse(text: str) -> Document:
    """Raises Problem that goes on from what holds the text: `is not YAML: ...`."""
    try:
        _check_bounds(text)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return Document(None, None)
        _check_keys(node)
        content = loader.construct_document(node)
        return Document(content, _written(loader, node))
    except Problem:
        raise
    except yaml.YAMLError as error:
        raise Problem(f"is not YAML: {one_line(error)}; correct it") from error
    except Exception as error:  # of a date that there is not it is a ValueError, of a wrong tag whatever comes
        raise Problem(f"holds a value that YAML cannot read ({one_line(error)}); correct it") from error


def _check_bounds(text: str) -> None:
    """Raises Problem where the text nests too deep, or would be too much once its anchors are followed."""
    starts: list[tuple[str | None, int]] = []  # anchor, count before
    sizes: dict[str | None, int] = {}
    count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in starts):
                raise Problem(f"holds the anchor '&{event.anchor}' in itself; write its value out")
            count += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            starts.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = starts.pop()
            sizes[anchor] = count - before
        if len(starts) > DEEPEST:
            raise Problem(f"nests {len(starts)} levels deep; a sweep file has four")
        if count > MOST:
            raise Problem(f"holds more than {MOST} values, its anchors followed; write fewer")


def _check_keys(node: yaml.Node) -> None:
    """Raises Problem where a key stands twice: YAML would drop the first without a word."""
    if isinstance(node, yaml.MappingNode):
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                raise Problem(f"has the key {key!r} twice, in line {node.start_mark.line + 1} and below; leave one out")
    if isinstance(node, yaml.CollectionNode):
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                _check_keys(part)


def _written(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {loader.construct_object(key, deep=True): _written(loader, value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_written(loader, value) for value in node.value]
    return node.value
