"""What a store's registry.sqlite records: its tables, and versions and runs as Python values."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SCHEMA_VERSION = 3
REMOTES = (  # what is at W&B; place: BASE_URL/ENTITY/PROJECT
    """CREATE TABLE remotes (
    place TEXT NOT NULL, version INTEGER NOT NULL REFERENCES versions ON DELETE CASCADE, reference TEXT NOT NULL,
    PRIMARY KEY (place, version))""",
    "CREATE INDEX remotes_by_version ON remotes (version)",
    "CREATE TABLE published (place TEXT NOT NULL, run TEXT NOT NULL REFERENCES runs, PRIMARY KEY (place, run))",
)
POSITION = (  # how much of the journal the registry holds, and the checksum there
    "CREATE TABLE journal (size INTEGER NOT NULL, head TEXT NOT NULL)",
    "INSERT INTO journal VALUES (0, '')",
)
MIGRATIONS = {1: REMOTES, 2: POSITION}  # what makes a registry of one format into one of the next
# All that the journal tells, what others refer to first.
TABLES = ("artifacts", "versions", "files", "aliases", "runs", "inputs", "outputs", "remotes", "published")
MOVABLE = ("aliases", "remotes", "published")  # a row takes the place of one with its key
SCHEMA = """
CREATE TABLE artifacts (name TEXT PRIMARY KEY, type TEXT NOT NULL, next INTEGER NOT NULL);
CREATE TABLE versions (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL REFERENCES artifacts, number INTEGER NOT NULL, digest TEXT NOT NULL,
    size INTEGER NOT NULL, created REAL NOT NULL, UNIQUE (name, number), UNIQUE (name, digest));
CREATE TABLE files (
    version INTEGER NOT NULL REFERENCES versions ON DELETE CASCADE, path TEXT NOT NULL, md5 TEXT NOT NULL,
    size INTEGER NOT NULL, PRIMARY KEY (version, path));
CREATE INDEX files_by_content ON files (md5);
CREATE TABLE aliases (
    name TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL REFERENCES versions ON DELETE CASCADE,
    PRIMARY KEY (name, alias));
CREATE INDEX aliases_by_version ON aliases (version);
CREATE TABLE runs (
    id TEXT PRIMARY KEY, stage TEXT NOT NULL, variant TEXT, settings TEXT NOT NULL, config TEXT NOT NULL,
    revision TEXT NOT NULL, started REAL NOT NULL, seconds REAL NOT NULL);
CREATE INDEX runs_by_settings ON runs (stage, settings);
CREATE TABLE inputs (
    run TEXT NOT NULL REFERENCES runs, name TEXT NOT NULL, alias TEXT NOT NULL,
    version INTEGER REFERENCES versions ON DELETE CASCADE, PRIMARY KEY (run, name, alias));
CREATE INDEX inputs_by_version ON inputs (version);
CREATE TABLE outputs (
    run TEXT NOT NULL REFERENCES runs, version INTEGER REFERENCES versions ON DELETE SET NULL,
    aliases TEXT NOT NULL, PRIMARY KEY (run, version));
CREATE INDEX outputs_by_version ON outputs (version);
""" + "".join(f"{statement};\n" for statement in (*REMOTES, *POSITION))


class File(NamedTuple):
    md5: str
    size: int


@dataclass(frozen=True)
class Version:
    """One version of an artifact, as the registry knows it."""

    id: int
    name: str
    number: int
    type: str
    digest: str
    size: int
    created: float
    aliases: tuple[str, ...]

    @property
    def reference(self) -> str:
        return f"{self.name}:v{self.number}"

    @property
    def folder(self) -> str:
        """The name of its folder in `folders/`."""
        return f"{self.name}-v{self.number}"


@dataclass(frozen=True)
class Draft:
    """What is to become a version: its files are in `objects/` already, nothing refers to them yet.

    latest: whether that alias moves to it, as when W&B logs an artifact; not so for what is only pulled from there.
    """

    name: str
    type: str
    aliases: tuple[str, ...]
    files: Mapping[str, File]
    latest: bool = True

    @property
    def digest(self) -> str:
        return manifest_digest(self.files)


@dataclass(frozen=True)
class Run:
    """One run of a stage: what it was asked, when, by which code, and what it read.

    settings: hash of the stage's resolved configuration. inputs: (name, alias as asked) to a version, or to None where
    an optional input was asked for and missing.
    """

    id: str
    stage: str
    variant: str | None
    settings: str
    config: Mapping[str, Any]
    revision: str
    started: float
    seconds: float = 0.0
    inputs: Mapping[tuple[str, str], Version | None] = field(default_factory=dict)


def manifest_digest(files: Mapping[str, File]) -> str:
    """W&B's digest of a manifest (version 1): what `wandb.Artifact(...).digest` says of the same files."""
    digest = hashlib.md5(b"wandb-artifact-manifest-v1\n", usedforsecurity=False)
    for path in sorted(files):
        content = base64.b64encode(bytes.fromhex(files[path].md5)).decode()
        digest.update(f"{path}:{content}\n".encode())
    return digest.hexdigest()
