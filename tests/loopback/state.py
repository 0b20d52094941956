"""What the server holds: runs, artifact collections with their versions, sweeps with their agents."""

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

ENTITY = "loopback"
Variables = Mapping[str, Any]


class Refusal(Exception):
    """What a GraphQL operation answers in `errors`."""


@dataclass
class Run:
    """stream: lines by the name of the file that they belong to. files: media and others, by path. state: as W&B calls it."""

    name: str
    project: str
    display: str
    state: str = "running"
    config: str = "{}"
    group: str | None = None
    job_type: str | None = None
    sweep: str | None = None
    notes: str | None = None
    tags: list[str] = field(default_factory=list)
    stream: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def receive(self, chunk: Mapping[str, Any]) -> None:
        """A request of the file stream. Its chunks say where they begin: sent twice, they are there once."""
        for name, part in (chunk.get("files") or {}).items():
            lines = self.stream.setdefault(name, [])
            if part["offset"] > len(lines):
                raise Refusal(f"{name} of {self.name} has {len(lines)} lines, a chunk begins at {part['offset']}")
            lines[part["offset"] : part["offset"] + len(part["content"])] = part["content"]
        if chunk.get("complete"):
            self.state = "failed" if chunk.get("exitcode") else "finished"

    @property
    def history(self) -> list[dict[str, Any]]:
        """One row a step, the last that came. The client counts on that: a record that it sends again has the steps that
        it had before (it keeps them beside it, in `.syncstate`), in lines of their own."""
        rows = map(json.loads, self.stream.get("wandb-history.jsonl", []))
        return list({row["_step"]: row for row in rows}.values())

    @property
    def summary(self) -> str:
        return (self.stream.get("wandb-summary.json") or ["{}"])[-1]


@dataclass
class Version:
    """number is None until it is committed. manifest: as uploaded; lie: what is handed out in its place. pending: the aliases
    that it gets when committed."""

    id: str
    collection: "Collection"
    digest: str
    pending: list[str]
    metadata: str | None
    description: str | None
    ttl: int | None = None  # seconds
    number: int | None = None
    manifest: bytes = b""
    lie: bytes = b""

    @property
    def contents(self) -> dict[str, dict[str, Any]]:
        return dict(json.loads(self.manifest)["contents"]) if self.manifest else {}

    @property
    def blobs(self) -> dict[str, str]:
        """Path -> MD5 in hexadecimal."""
        return {
            path: base64.b64decode(entry["digest"]).hex() for path, entry in self.contents.items() if "ref" not in entry
        }

    @property
    def reference(self) -> str:
        return f"{self.collection.name}:v{self.number}"

    @property
    def aliases(self) -> list[str]:
        return [alias for alias, version in self.collection.aliases.items() if version is self]


@dataclass
class Collection:
    """clients: the id that a client gave to what it logs -> the version that it became."""

    name: str
    project: str
    type: str
    versions: list[Version] = field(default_factory=list)
    aliases: dict[str, Version] = field(default_factory=dict)
    clients: dict[str, Version] = field(default_factory=dict)


@dataclass
class Sweep:
    """points: what no agent has been given yet."""

    name: str
    project: str
    config: str
    points: Iterator[dict[str, Any]]
    state: str = "RUNNING"

    @property
    def program(self) -> str:
        return str(yaml.safe_load(self.config)["program"])

    @classmethod
    def grid(cls, name: str, project: str, config: str) -> "Sweep":
        definition = yaml.safe_load(config)
        if definition["method"] != "grid":
            raise Refusal(f"this server sweeps over grids, not by {definition['method']}")
        choices = {key: spec.get("values", [spec.get("value")]) for key, spec in definition["parameters"].items()}
        points = (dict(zip(choices, point, strict=True)) for point in itertools.product(*choices.values()))
        return cls(name, project, config, points)


@dataclass(frozen=True)
class Edge:
    """A run used a version, or made it (also where another had made the same before)."""

    run: str
    version: Version


@dataclass
class View:
    """A Report (type `runs`) or a Workspace (`project-view`). spec: JSON."""

    id: str
    project: str
    type: str
    name: str
    display: str
    description: str
    spec: str


@dataclass
class State:
    """Everything on the server. blobs: by MD5 in hexadecimal; manifests: by the id of their version; links: what registries
    hold, by project and collection; views: by id."""

    runs: dict[tuple[str, str], Run] = field(default_factory=dict)
    collections: dict[tuple[str, str], Collection] = field(default_factory=dict)
    versions: dict[str, Version] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    inputs: list[Edge] = field(default_factory=list)
    outputs: list[Edge] = field(default_factory=list)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    agents: dict[str, Sweep] = field(default_factory=dict)
    links: dict[tuple[str, str], list[Version]] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    count: int = 0

    def new_id(self, kind: str) -> str:
        self.count += 1
        return base64.b64encode(f"{kind}:{self.count}".encode()).decode()

    def run(self, project: str, name: str) -> Run:
        """The run of that name, made where there is none."""
        return self.runs.setdefault((project, name), Run(name, project, name))

    def find(self, project: str, reference: str) -> Version | None:
        """By NAME:ALIAS, NAME:vN or NAME; in a registry by COLLECTION:vN, the numbers in the order of linking."""
        name, _, alias = reference.partition(":")
        if members := self.links.get((project, name)):
            return members[int(alias.removeprefix("v"))]
        collection = self.collections.get((project, name))
        if collection is None:
            return None
        if number := re.fullmatch(r"v(\d+)", alias):
            return next((version for version in collection.versions if version.number == int(number[1])), None)
        return collection.aliases.get(alias or "latest")

    def create(self, variables: Variables) -> Version:
        """The version of an artifact's draft: one that is there already where the digest is the same."""
        key = (variables["projectName"], variables["artifactCollectionName"])
        kind = variables["artifactTypeName"]
        collection = self.collections.setdefault(key, Collection(key[1], key[0], kind))
        if collection.type != kind:
            raise Refusal(f"artifact {key[1]} has the type {collection.type}, not {kind}")
        aliases = [entry["alias"] for entry in variables.get("aliases") or []]
        for version in collection.versions:
            if version.digest == variables["digest"]:
                collection.aliases.update(dict.fromkeys(aliases, version))
                break
        else:
            version = Version(
                self.new_id("Artifact"),
                collection,
                variables["digest"],
                aliases,
                variables.get("metadata"),
                variables.get("description"),
                variables.get("ttlDurationSeconds"),
            )
            self.versions[version.id] = version
        collection.clients[variables["clientID"]] = version
        if variables.get("runName"):
            self.outputs.append(Edge(variables["runName"], version))
        return version

    def commit(self, version: Version) -> None:
        """Raises Refusal where a file is missing or the digest is another one than the manifest's."""
        absent = [path for path, md5 in version.blobs.items() if md5 not in self.blobs]
        if absent or not version.manifest:
            raise Refusal(f"cannot commit {version.collection.name}: not uploaded: {absent or 'its manifest'}")
        if (digest := manifest_digest(version.contents)) != version.digest:
            raise Refusal(
                f"cannot commit {version.collection.name}: its manifest has the digest {digest}, not {version.digest}"
            )
        if version.number is None:
            twin = next((other for other in version.collection.versions if other.digest == version.digest), None)
            assert twin is None, "two clients committed the same digest at once"
            version.number = len(version.collection.versions)
            version.collection.versions.append(version)
        version.collection.aliases.update(dict.fromkeys(version.pending, version))
        version.pending = []

    def versions_of(self, edges: Sequence[Edge], run: str) -> list[Version]:
        """Each once, in the order of the edges, committed ones alone."""
        return list(
            {
                edge.version.id: edge.version for edge in edges if edge.run == run and edge.version.number is not None
            }.values()
        )

    def next_point(self, agent: str) -> dict[str, Any] | None:
        """A run of the agent's sweep that no agent has had; None once the grid is through."""
        sweep = self.agents[agent]
        point = next(sweep.points, None)
        if point is None:
            sweep.state = "FINISHED"
        return point


def manifest_digest(contents: Mapping[str, Mapping[str, Any]]) -> str:
    """W&B's, of a manifest of version 1."""
    lines = "".join(f"{path}:{contents[path]['digest']}\n" for path in sorted(contents))
    return hashlib.md5(f"wandb-artifact-manifest-v1\n{lines}".encode(), usedforsecurity=False).hexdigest()
