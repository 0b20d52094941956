"""What the server holds, in the shapes of W&B's GraphQL schema that the client asks for."""

import base64
import json
from collections.abc import Iterable
from typing import Any

from tests.loopback.state import ENTITY, Collection, Run, Sweep, Version

NOW = "2026-01-01T00:00:00Z"
Reply = dict[str, Any]
LAST_PAGE: Reply = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}


def edges(nodes: Iterable[Reply]) -> Reply:
    """A connection: one page, all of them."""
    listed = [{"node": node, "cursor": str(index)} for index, node in enumerate(nodes)]
    return {"totalCount": len(listed), "pageInfo": LAST_PAGE, "edges": listed}


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
        "isBenchmark": False,
        "readOnly": False,
    }


def run(told: Run) -> Reply:
    return {
        "__typename": "Run",
        "id": f"R:{told.name}",
        "name": told.name,
        "displayName": told.display,
        "description": None,
        "config": told.config,
        "rawconfig": told.config,
        "sweepName": told.sweep,
        "project": project(told.project),
        "projectId": "1",
        "historyLineCount": len(told.stream.get("wandb-history.jsonl", [])),
        "historyKeys": None,
        "state": told.state,
        "group": told.group,
        "jobType": told.job_type,
        "tags": told.tags,
        "createdAt": NOW,
        "heartbeatAt": NOW,
        "summaryMetrics": told.summary,
        "systemMetrics": "{}",
        "commit": None,
        "readOnly": False,
        "stopped": False,
        "notes": None,
        "user": {"name": ENTITY, "username": ENTITY},
    }


def resumable(told: Run) -> Reply:
    """What a client that goes on with a run needs to know of it."""
    return {
        "id": f"R:{told.name}",
        "name": told.name,
        "summaryMetrics": told.summary,
        "displayName": told.display,
        "logLineCount": len(told.stream.get("output.log", [])),
        "historyLineCount": len(told.stream.get("wandb-history.jsonl", [])),
        "eventsLineCount": len(told.stream.get("wandb-events.jsonl", [])),
        "historyTail": json.dumps(told.stream.get("wandb-history.jsonl", [])[-1:]),
        "eventsTail": "[]",
        "config": told.config,
        "tags": told.tags,
        "notes": None,
        "wandbConfig": json.dumps({"t": 1}),
    }


def collection(told: Collection) -> Reply:
    return {
        "__typename": "ArtifactSequence",
        "id": f"C:{told.name}",
        "name": told.name,
        "project": project(told.project),
        "description": None,
        "createdAt": NOW,
        "updatedAt": NOW,
        "type": {"name": told.type},
        "tags": {"edges": []},
        "state": "READY",
    }


def artifact(told: Version, base: str) -> Reply:
    """base: the server's own address."""
    latest = told.collection.aliases.get("latest")
    return {
        "__typename": "Artifact",
        "id": told.id,
        "artifactSequence": {**collection(told.collection), "latestArtifact": {"id": latest.id} if latest else None},
        "versionIndex": told.number,
        "artifactType": {"name": told.collection.type, "id": "T", "description": None, "createdAt": NOW},
        "description": told.description,
        "metadata": told.metadata,
        "ttlDurationSeconds": -1,
        "ttlIsInherited": True,
        "tags": [],
        "historyStep": None,
        "state": "PENDING" if told.number is None else "COMMITTED",
        "size": sum(entry.get("size", 0) for entry in told.contents.values()),
        "digest": told.digest,
        "commitHash": "h",
        "fileCount": len(told.contents),
        "createdAt": NOW,
        "updatedAt": NOW,
        "aliases": _aliases(told),
        "currentManifest": {"id": "M", "file": {"directUrl": f"{base}/manifest/{told.id}"}},
    }


def _aliases(told: Version) -> list[Reply]:
    """W&B counts the version's own `vN` among them."""
    names = told.aliases + ([f"v{told.number}"] if told.number is not None else [])
    return [
        {
            "__typename": "ArtifactAlias",
            "id": f"{told.id}/{alias}",
            "alias": alias,
            "artifactCollection": collection(told.collection),
            "artifactCollectionName": told.collection.name,
        }
        for alias in names
    ]


def membership(told: Version, base: str) -> Reply:
    return {
        "__typename": "ArtifactCollectionMembership",
        "createdAt": NOW,
        "id": f"M:{told.id}",
        "versionIndex": told.number,
        "aliases": _aliases(told),
        "artifactCollection": collection(told.collection),
        "artifact": artifact(told, base),
    }


def files(told: Version, base: str) -> Reply:
    return edges(
        {
            "__typename": "File",
            "name": path,
            "directUrl": f"{base}/blob/{md5}",
            "id": path,
            "url": "",
            "sizeBytes": told.contents[path].get("size", 0),
            "storagePath": "",
            "mimetype": "",
            "updatedAt": NOW,
            "digest": told.contents[path]["digest"],
            "md5": told.contents[path]["digest"],
        }
        for path, md5 in told.blobs.items()
    )


def sweep(told: Sweep, runs: Iterable[Run] = ()) -> Reply:
    listed = list(runs)
    return {
        "id": told.name,
        "name": told.name,
        "displayName": None,
        "description": None,
        "method": "grid",
        "state": told.state,
        "config": told.config,
        "createdAt": NOW,
        "heartbeatAt": None,
        "updatedAt": None,
        "earlyStopJobRunning": False,
        "bestLoss": None,
        "controller": None,
        "scheduler": None,
        "runCount": len(listed),
        "runCountExpected": None,
        "priorRuns": {"edges": []},
        "runs": edges(map(run, listed)),
    }
