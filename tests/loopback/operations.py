"""The GraphQL operations that the client calls: one function each, found by the operation's name."""

import base64
import json
from collections.abc import Callable

from tests.loopback import replies
from tests.loopback.replies import Reply, edges
from tests.loopback.state import Edge, Refused, State, Sweep, Variables, Version

Operation = Callable[[State, Variables, str], Reply]
OPERATIONS: dict[str, Operation] = {}


def operation(*names: str) -> Callable[[Operation], Operation]:
    def add(function: Operation) -> Operation:
        OPERATIONS.update(dict.fromkeys(names, function))
        return function

    return add


# -- who and what ------------------------------------------------------------------------------------------------------


@operation("Viewer", "GetViewer", "GetDefaultEntity")
def _viewer(state: State, asked: Variables, base: str) -> Reply:
    return {"viewer": replies.viewer()}


@operation("ServerFeaturesQuery")
def _features(state: State, asked: Variables, base: str) -> Reply:
    return {"serverInfo": {"features": []}}


@operation("ServerInfo")
def _server(state: State, asked: Variables, base: str) -> Reply:
    return {"serverInfo": {"cliVersionInfo": {"max_cli_version": "99.0.0"}, "latestLocalVersionInfo": None}}


@operation("OrganizationCoreWeaveOrganizationID")
def _organization(state: State, asked: Variables, base: str) -> Reply:
    return {"entity": {"organization": None}}


# -- runs --------------------------------------------------------------------------------------------------------------


@operation("RunResumeStatus")
def _resume(state: State, asked: Variables, base: str) -> Reply:
    run = state.runs.get((asked["project"], asked["name"]))
    return {"model": {**replies.project(asked["project"]), "bucket": run and replies.resumable(run)}}


@operation("RunStoppedStatus")
def _stopped(state: State, asked: Variables, base: str) -> Reply:
    return {"project": {"run": {"stopped": False}}}


@operation("UpsertBucket")
def _upsert_run(state: State, asked: Variables, base: str) -> Reply:
    new = (asked.get("project") or "uncategorized", asked["name"]) not in state.runs
    run = state.run(asked.get("project") or "uncategorized", asked["name"])
    for field, given in {
        "config": "config",
        "group": "groupName",
        "job_type": "jobType",
        "display": "displayName",
        "sweep": "sweep",
        "tags": "tags",
        "state": "state",
    }.items():
        if asked.get(given) is not None:
            setattr(run, field, asked[given])
    return {"upsertBucket": {"bucket": replies.run(run), "inserted": new}}


@operation("CreateRunFiles")
def _run_files(state: State, asked: Variables, base: str) -> Reply:
    files = [
        {"name": name, "uploadUrl": f"{base}/file/{asked['project']}/{asked['run']}/{name}"} for name in asked["files"]
    ]
    return {"createRunFiles": {"runID": f"R:{asked['run']}", "uploadHeaders": [], "files": files}}


@operation("MarkRunFilesUploaded")
def _uploaded(state: State, asked: Variables, base: str) -> Reply:
    return {"markRunFilesUploaded": {"success": True}}


@operation("Run")
def _run(state: State, asked: Variables, base: str) -> Reply:
    run = state.runs.get((asked["project"], asked["name"]))
    return {"project": {"run": run and replies.run(run)}}


@operation("Runs")
def _runs(state: State, asked: Variables, base: str) -> Reply:
    filters = json.loads(asked.get("filters") or "{}")
    wanted = {key: value for part in filters.get("$and", [filters]) for key, value in part.items()}
    if unknown := set(wanted) - {"sweep"}:
        raise Refused(f"this server filters runs by their sweep alone, not by {sorted(unknown)}")
    runs = [
        run
        for run in state.runs.values()
        if run.project == asked["project"] and wanted.get("sweep", run.sweep) == run.sweep
    ]
    project = {"internalId": "1", "runCount": len(runs), "readOnly": False, "runs": edges(map(replies.run, runs))}
    return {"project": project}


# -- artifacts: logging ------------------------------------------------------------------------------------------------


@operation("ArtifactType")
def _type(state: State, asked: Variables, base: str) -> Reply:
    collection = state.collections.get((asked["project"], asked["name"].partition(":")[0]))
    return {"project": {"artifact": collection and {"artifactType": {"name": collection.type}}}}


@operation("CreateArtifact")
def _create(state: State, asked: Variables, base: str) -> Reply:
    return {"createArtifact": {"artifact": replies.artifact(state.create(asked["input"]), base)}}


@operation("CreateArtifactManifest")
def _manifest(state: State, asked: Variables, base: str) -> Reply:
    file = {"id": "f", "uploadUrl": f"{base}/manifest/{asked['artifactID']}", "uploadHeaders": []}
    return {"createArtifactManifest": {"artifactManifest": {"id": asked["artifactID"], "file": file}}}


@operation("CreateArtifactFiles")
def _files(state: State, asked: Variables, base: str) -> Reply:
    nodes = []
    for file in asked.get("artifactFiles") or asked["input"]["artifactFiles"]:
        md5 = base64.b64decode(file["md5"]).hex()
        nodes.append(
            {
                "storagePath": md5,
                "uploadUrl": None if md5 in state.blobs else f"{base}/blob/{md5}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
                "name": file["name"],
            }
        )
    return {"createArtifactFiles": {"files": edges(nodes)}}


@operation("CommitArtifact")
def _commit(state: State, asked: Variables, base: str) -> Reply:
    version = state.versions[asked["artifactID"]]
    state.commit(version)
    return {"commitArtifact": {"artifact": replies.artifact(version, base)}}


@operation("ClientIDMapping")
def _client(state: State, asked: Variables, base: str) -> Reply:
    known = (collection.clients.get(asked["clientID"]) for collection in state.collections.values())
    version = next((version for version in known if version), None)
    return {"clientIDMapping": version and {"serverID": version.id}}


@operation("UpdateArtifact")
def _update(state: State, asked: Variables, base: str) -> Reply:
    changes = asked["input"]
    version = state.versions[changes["artifactID"]]
    if changes.get("metadata"):
        version.metadata = changes["metadata"]
    reply = {"artifact": replies.artifact(version, base)}
    return {"result": reply, "updateArtifact": reply}


@operation("AddAliases")
def _add_aliases(state: State, asked: Variables, base: str) -> Reply:
    """An alias that another version of the collection has is taken from it."""
    version = state.versions[asked["input"]["artifactID"]]
    version.collection.aliases.update({entry["alias"]: version for entry in asked["input"]["aliases"]})
    return {"result": {"success": True}}


@operation("DeleteAliases")
def _delete_aliases(state: State, asked: Variables, base: str) -> Reply:
    version = state.versions[asked["input"]["artifactID"]]
    for entry in asked["input"]["aliases"]:
        if version.collection.aliases.get(entry["alias"]) is version:
            del version.collection.aliases[entry["alias"]]
    return {"result": {"success": True}}


# -- artifacts: reading ------------------------------------------------------------------------------------------------


def _named(state: State, asked: Variables, reference: str) -> Version | None:
    return state.find(asked["project"], reference)


@operation("ArtifactByID")
def _by_id(state: State, asked: Variables, base: str) -> Reply:
    version = state.versions.get(asked["id"])
    return {"artifact": version and replies.artifact(version, base)}


@operation("ArtifactMembershipByName")
def _by_name(state: State, asked: Variables, base: str) -> Reply:
    version = _named(state, asked, asked["name"])
    return {"project": {"artifactCollectionMembership": version and replies.membership(version, base)}}


@operation("FetchArtifactManifest", "ArtifactManifest")
def _fetch_manifest(state: State, asked: Variables, base: str) -> Reply:
    return {"artifact": replies.artifact(state.versions[asked.get("id") or asked["artifact_id"]], base)}


@operation("GetArtifactMembershipFileUrls")
def _urls(state: State, asked: Variables, base: str) -> Reply:
    version = _named(state, asked, f"{asked['collection']}:{asked['alias']}")
    if version is None:
        raise Refused(f"no artifact {asked['collection']}:{asked['alias']}")
    files = {"__typename": "ArtifactSequence", "artifactMembership": {"files": replies.files(version, base)}}
    return {"project": {"artifactCollection": files}}


@operation("ProjectArtifacts")
def _artifacts(state: State, asked: Variables, base: str) -> Reply:
    """Newest first."""
    collection = state.collections.get((asked["project"], asked["collection"]))
    listed = edges(replies.artifact(version, base) for version in reversed(collection.versions if collection else []))
    for edge in listed["edges"]:
        edge["version"] = f"v{edge['node']['versionIndex']}"
    found = {"__typename": "ArtifactSequence", "artifacts": listed}
    return {"project": {"artifactType": {"artifactCollection": found}}}


# -- lineage -----------------------------------------------------------------------------------------------------------


@operation("UseArtifact")
def _use(state: State, asked: Variables, base: str) -> Reply:
    used = asked.get("input") or asked
    version = state.versions[used["artifactID"]]
    if used.get("runName"):
        state.used.append(Edge(used["runName"], version))
    return {"useArtifact": {"artifact": replies.artifact(version, base)}}


@operation("ArtifactUsedBy")
def _used_by(state: State, asked: Variables, base: str) -> Reply:
    names = {edge.run for edge in state.used if edge.version.id == asked["id"]}
    return {"artifact": {"usedBy": edges(replies.run(run) for run in state.runs.values() if run.name in names)}}


@operation("ArtifactCreatedBy")
def _created_by(state: State, asked: Variables, base: str) -> Reply:
    names = [edge.run for edge in state.made if edge.version.id == asked["id"]]
    maker = next((run for run in state.runs.values() if run.name in names[:1]), None)
    return {"artifact": {"createdBy": maker and replies.run(maker)}}


@operation("RunOutputArtifacts")
def _outputs(state: State, asked: Variables, base: str) -> Reply:
    versions = state.versions_of(state.made, asked["run"])
    return {"project": {"run": {"artifacts": edges(replies.artifact(version, base) for version in versions)}}}


@operation("RunInputArtifacts")
def _inputs(state: State, asked: Variables, base: str) -> Reply:
    versions = state.versions_of(state.used, asked["run"])
    return {"project": {"run": {"artifacts": edges(replies.artifact(version, base) for version in versions)}}}


# -- sweeps ------------------------------------------------------------------------------------------------------------


@operation("UpsertSweep")
def _upsert_sweep(state: State, asked: Variables, base: str) -> Reply:
    name = f"sweep{len(state.sweeps) + 1}"
    sweep = state.sweeps[name] = Sweep.grid(name, asked["projectName"], asked["config"])
    told = {"id": name, "name": name, "project": replies.project(sweep.project)}
    return {"upsertSweep": {"sweep": told, "configValidationWarnings": []}}


@operation("Sweep", "GetSweep", "GetSweepLegacy", "SweepWithRuns", "GetSweepState")
def _sweep(state: State, asked: Variables, base: str) -> Reply:
    sweep = state.sweeps.get(asked.get("sweep") or asked["name"])
    runs = [run for run in state.runs.values() if sweep and run.sweep == sweep.name]
    return {"project": {"sweep": sweep and replies.sweep(sweep, runs)}}


@operation("CreateAgent")
def _agent(state: State, asked: Variables, base: str) -> Reply:
    agent = state.new_id("Agent")
    state.agents[agent] = state.sweeps[asked["sweep"]]
    return {"createAgent": {"agent": {"id": agent}}}


@operation("Heartbeat")
def _heartbeat(state: State, asked: Variables, base: str) -> Reply:
    """An agent that runs nothing is told what to run next, or that it is done."""
    commands: list[Reply] = []
    if not json.loads(asked.get("runState") or "{}"):
        point = state.next_point(asked["id"])
        if point is None:
            commands = [{"type": "exit"}]
        else:
            sweep = state.agents[asked["id"]]
            count = len(state.runs)
            arguments = {name: {"value": value} for name, value in point.items()}
            name = f"{sweep.name}r{count}"
            state.run(sweep.project, name).sweep = sweep.name
            commands = [{"type": "run", "run_id": name, "program": sweep.program, "args": arguments}]
    return {"agentHeartbeat": {"agent": {"id": asked["id"]}, "commands": json.dumps(commands)}}
