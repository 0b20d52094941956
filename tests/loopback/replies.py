"""What the server holds, in the shapes of W&B's GraphQL schema that the client asks for."""

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

from tests.loopback.state import ENTITY, Collection, Run, Sweep, Version, View

NOW = "2026-01-01T00:00:00Z"
Reply = dict[str, Any]
LAST_PAGE: Reply = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}


def edges(nodes: Iterable[Reply]) -> Reply:
    """A connection: one page, all of them."""
    entries = [{"node": node, "cursor": str(index)} for index, node in enumerate(nodes)]
    return {"totalCount": len(entries), "pageInfo": LAST_PAGE, "edges": entries}


def viewer() -> Reply:
    return {
        "id": "U",
        "entity": ENTITY,
        "username": ENTITY,
        "name": ENTITY,
        "email": "",
        "admin": False,
        "flags": "{}",
        "deletedAt": None,
        "teams": edges([{"name": ENTITY}]),
        "apiKeys": {"edges": []},
        "defaultEntity": {"name": ENTITY},
    }


def project(name: str) -> Reply:
    return {
        "id": f"P:{name}",
        "internalId": base64.b64encode(b"ProjectInternalId:1").decode(),
        "name": name,
        "entity": {"id": "E", "name": ENTITY, "organization": None},
        "entityName": ENTITY,
        "createdAt": NOW,
        "user": None,
        "isBenchmark": False,
        "readOnly": False,
    }


def run(record: Run) -> Reply:
    return {
        "__typename": "Run",
        "id": f"R:{record.name}",
        "name": record.name,
        "displayName": record.display,
        "description": None,
        "config": record.config,
        "rawconfig": record.config,
        "sweepName": record.sweep,
        "project": project(record.project),
        "projectId": "1",
        "historyLineCount": len(record.stream.get("wandb-history.jsonl", [])),
        "historyKeys": None,
        "state": record.state,
        "group": record.group,
        "jobType": record.job_type,
        "tags": record.tags,
        "createdAt": NOW,
        "heartbeatAt": NOW,
        "summaryMetrics": record.summary,
        "systemMetrics": "{}",
        "commit": None,
        "readOnly": False,
        "stopped": False,
        "notes": None,
        "user": {"name": ENTITY, "username": ENTITY},
    }


def resumable(record: Run) -> Reply:
    """What a client that goes on with a run needs to know of it."""
    return {
        "id": f"R:{record.name}",
        "name": record.name,
        "summaryMetrics": record.summary,
        "displayName": record.display,
        "logLineCount": len(record.stream.get("output.log", [])),
        "historyLineCount": len(record.stream.get("wandb-history.jsonl", [])),
        "eventsLineCount": len(record.stream.get("wandb-events.jsonl", [])),
        "historyTail": json.dumps(record.stream.get("wandb-history.jsonl", [])[-1:]),
        "eventsTail": "[]",
        "config": record.config,
        "tags": record.tags,
        "notes": None,
        "wandbConfig": json.dumps({"t": 1}),
    }


def collection(source: Collection) -> Reply:
    return {
        "__typename": "ArtifactSequence",
        "id": f"C:{source.name}",
        "name": source.name,
        "project": project(source.project),
        "description": None,
        "createdAt": NOW,
        "updatedAt": NOW,
        "type": {"name": source.type},
        "tags": {"edges": []},
        "state": "READY",
    }


def artifact(version: Version, base: str) -> Reply:
    """base: the server's own address."""
    latest = version.collection.aliases.get("latest")
    return {
        "__typename": "Artifact",
        "id": version.id,
        "artifactSequence": {**collection(version.collection), "latestArtifact": {"id": latest.id} if latest else None},
        "versionIndex": version.number,
        "artifactType": {"name": version.collection.type, "id": "T", "description": None, "createdAt": NOW},
        "description": version.description,
        "metadata": version.metadata,
        "ttlDurationSeconds": version.ttl or -1,
        "ttlIsInherited": version.ttl is None,
        "tags": [],
        "historyStep": None,
        "state": "PENDING" if version.number is None else "COMMITTED",
        "size": sum(entry.get("size", 0) for entry in version.contents.values()),
        "digest": version.digest,
        "commitHash": "h",
        "fileCount": len(version.contents),
        "createdAt": NOW,
        "updatedAt": NOW,
        "aliases": _aliases(version),
        "currentManifest": {"id": "M", "file": {"directUrl": f"{base}/manifest/{version.id}"}},
    }


def _aliases(version: Version) -> list[Reply]:
    """W&B counts the version's own `vN` among them."""
    names = version.aliases + ([f"v{version.number}"] if version.number is not None else [])
    return [
        {
            "__typename": "ArtifactAlias",
            "id": f"{version.id}/{alias}",
            "alias": alias,
            "artifactCollection": collection(version.collection),
            "artifactCollectionName": version.collection.name,
        }
        for alias in names
    ]


def membership(version: Version, base: str) -> Reply:
    return {
        "__typename": "ArtifactCollectionMembership",
        "createdAt": NOW,
        "id": f"M:{version.id}",
        "versionIndex": version.number,
        "aliases": _aliases(version),
        "artifactCollection": collection(version.collection),
        "artifact": artifact(version, base),
    }


def files(version: Version, base: str, names: Sequence[str] | None = None) -> Reply:
    """names: those of the files that are asked for, all unless some are."""
    return edges(
        {
            "__typename": "File",
            "name": path,
            "directUrl": f"{base}/blob/{md5}",
            "id": path,
            "url": "",
            "sizeBytes": version.contents[path].get("size", 0),
            "storagePath": "",
            "mimetype": "",
            "updatedAt": NOW,
            "digest": version.contents[path]["digest"],
            "md5": version.contents[path]["digest"],
        }
        for path, md5 in version.blobs.items()
        if not names or path in names
    )


def sweep(source: Sweep, runs: Iterable[Run] = ()) -> Reply:
    records = list(runs)
    return {
        "id": source.name,
        "name": source.name,
        "displayName": None,
        "description": None,
        "method": "grid",
        "state": source.state,
        "config": source.config,
        "createdAt": NOW,
        "heartbeatAt": None,
        "updatedAt": None,
        "earlyStopJobRunning": False,
        "bestLoss": None,
        "controller": None,
        "scheduler": None,
        "runCount": len(records),
        "runCountExpected": None,
        "priorRuns": {"edges": []},
        "runs": edges(map(run, records)),
    }


def view(source: View) -> Reply:
    return {
        "id": source.id,
        "type": source.type,
        "name": source.name,
        "displayName": source.display,
        "description": source.description,
        "project": {"id": f"P:{source.project}", "name": source.project, "entityName": ENTITY},
        "user": {"username": ENTITY, "photoUrl": None, "email": ""},
        "spec": source.spec,
        "createdAt": NOW,
        "updatedAt": NOW,
    }
