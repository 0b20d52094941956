"""The GraphQL operations that the client calls: one function each, found by the operation's name."""

import base64
import json
from collections.abc import Callable

from tests.loopback import replies
from tests.loopback.replies import Reply, edges
from tests.loopback.state import ENTITY, Edge, Refusal, State, Sweep, Variables, Version, View

Operation = Callable[[State, Variables, str], Reply]
OPERATIONS: dict[str, Operation] = {}


def operation(*names: str) -> Callable[[Operation], Operation]:
    def add(function: Operation) -> Operation:
        OPERATIONS.update(dict.fromkeys(names, function))
        return function

    return add


# -- who and what ------------------------------------------------------------------------------------------------------


@operation("Viewer", "GetViewer", "GetDefaultEntity")
def _viewer(state: State, variables: Variables, base: str) -> Reply:
    return {"viewer": replies.viewer()}


@operation("ServerFeaturesQuery")
def _features(state: State, variables: Variables, base: str) -> Reply:
    return {"serverInfo": {"features": []}}


@operation("ServerInfo")
def _server(state: State, variables: Variables, base: str) -> Reply:
    return {"serverInfo": {"cliVersionInfo": {"max_cli_version": "99.0.0"}, "latestLocalVersionInfo": None}}


@operation("OrganizationCoreWeaveOrganizationID")
def _organization(state: State, variables: Variables, base: str) -> Reply:
    return {"entity": {"organization": None}}


# -- runs --------------------------------------------------------------------------------------------------------------


@operation("RunResumeStatus")
def _resume(state: State, variables: Variables, base: str) -> Reply:
    run = state.runs.get((variables["project"], variables["name"]))
    return {"model": {**replies.project(variables["project"]), "bucket": run and replies.resumable(run)}}


@operation("RunStoppedStatus")
def _stopped(state: State, variables: Variables, base: str) -> Reply:
    return {"project": {"run": {"stopped": False}}}


@operation("UpsertBucket")
def _upsert_run(state: State, variables: Variables, base: str) -> Reply:
    new = (variables.get("project") or "uncategorized", variables["name"]) not in state.runs
    run = state.run(variables.get("project") or "uncategorized", variables["name"])
    for field, key in {
        "config": "config",
        "group": "groupName",
        "job_type": "jobType",
        "display": "displayName",
        "sweep": "sweep",
        "tags": "tags",
        "notes": "notes",
        "state": "state",
    }.items():
        if variables.get(key) is not None:
            setattr(run, field, variables[key])
    return {"upsertBucket": {"bucket": replies.run(run), "inserted": new}}


@operation("CreateRunFiles")
def _run_files(state: State, variables: Variables, base: str) -> Reply:
    files = [
        {"name": name, "uploadUrl": f"{base}/file/{variables['project']}/{variables['run']}/{name}"}
        for name in variables["files"]
    ]
    return {"createRunFiles": {"runID": f"R:{variables['run']}", "uploadHeaders": [], "files": files}}


@operation("MarkRunFilesUploaded")
def _uploaded(state: State, variables: Variables, base: str) -> Reply:
    return {"markRunFilesUploaded": {"success": True}}


@operation("Run")
def _run(state: State, variables: Variables, base: str) -> Reply:
    run = state.runs.get((variables["project"], variables["name"]))
    return {"project": {"run": run and replies.run(run)}}


@operation("Runs")
def _runs(state: State, variables: Variables, base: str) -> Reply:
    filters = json.loads(variables.get("filters") or "{}")
    criteria = {key: value for part in filters.get("$and", [filters]) for key, value in part.items()}
    if others := set(criteria) - {"sweep"}:
        raise Refusal(f"this server filters runs by their sweep alone, not by {sorted(others)}")
    runs = [
        run
        for run in state.runs.values()
        if run.project == variables["project"] and criteria.get("sweep", run.sweep) == run.sweep
    ]
    project = {"internalId": "1", "runCount": len(runs), "readOnly": False, "runs": edges(map(replies.run, runs))}
    return {"project": project}


# -- artifacts: logging ------------------------------------------------------------------------------------------------


@operation("ArtifactType")
def _type(state: State, variables: Variables, base: str) -> Reply:
    collection = state.collections.get((variables["project"], variables["name"].partition(":")[0]))
    return {"project": {"artifact": collection and {"artifactType": {"name": collection.type}}}}


@operation("CreateArtifact")
def _create(state: State, variables: Variables, base: str) -> Reply:
    return {"createArtifact": {"artifact": replies.artifact(state.create(variables["input"]), base)}}


@operation("CreateArtifactManifest")
def _manifest(state: State, variables: Variables, base: str) -> Reply:
    file = {"id": "f", "uploadUrl": f"{base}/manifest/{variables['artifactID']}", "uploadHeaders": []}
    return {"createArtifactManifest": {"artifactManifest": {"id": variables["artifactID"], "file": file}}}


@operation("CreateArtifactFiles")
def _files(state: State, variables: Variables, base: str) -> Reply:
    nodes = []
    for file in variables.get("artifactFiles") or variables["input"]["artifactFiles"]:
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
def _commit(state: State, variables: Variables, base: str) -> Reply:
    version = state.versions[variables["artifactID"]]
    state.commit(version)
    return {"commitArtifact": {"artifact": replies.artifact(version, base)}}


@operation("ClientIDMapping")
def _client(state: State, variables: Variables, base: str) -> Reply:
    candidates = (collection.clients.get(variables["clientID"]) for collection in state.collections.values())
    version = next((version for version in candidates if version), None)
    return {"clientIDMapping": version and {"serverID": version.id}}


@operation("UpdateArtifact")
def _update(state: State, variables: Variables, base: str) -> Reply:
    changes = variables["input"]
    version = state.versions[changes["artifactID"]]
    if changes.get("metadata"):
        version.metadata = changes["metadata"]
    reply = {"artifact": replies.artifact(version, base)}
    return {"result": reply, "updateArtifact": reply}


@operation("AddAliases")
def _add_aliases(state: State, variables: Variables, base: str) -> Reply:
    """An alias that another version of the collection has is taken from it."""
    version = state.versions[variables["input"]["artifactID"]]
    version.collection.aliases.update({entry["alias"]: version for entry in variables["input"]["aliases"]})
    return {"result": {"success": True}}


@operation("DeleteAliases")
def _delete_aliases(state: State, variables: Variables, base: str) -> Reply:
    version = state.versions[variables["input"]["artifactID"]]
    for entry in variables["input"]["aliases"]:
        if version.collection.aliases.get(entry["alias"]) is version:
            del version.collection.aliases[entry["alias"]]
    return {"result": {"success": True}}


# -- artifacts: reading ------------------------------------------------------------------------------------------------


def _find(state: State, variables: Variables, reference: str) -> Version | None:
    return state.find(variables["project"], reference)


@operation("ArtifactByID")
def _by_id(state: State, variables: Variables, base: str) -> Reply:
    version = state.versions.get(variables["id"])
    return {"artifact": version and replies.artifact(version, base)}


@operation("ArtifactMembershipByName")
def _by_name(state: State, variables: Variables, base: str) -> Reply:
    version = _find(state, variables, variables["name"])
    return {"project": {"artifactCollectionMembership": version and replies.membership(version, base)}}


@operation("FetchArtifactManifest", "ArtifactManifest")
def _fetch_manifest(state: State, variables: Variables, base: str) -> Reply:
    return {"artifact": replies.artifact(state.versions[variables.get("id") or variables["artifact_id"]], base)}


@operation("ArtifactMembershipFiles")
def _urls(state: State, variables: Variables, base: str) -> Reply:
    version = _find(state, variables, f"{variables['collection']}:{variables['alias']}")
    if version is None:
        raise Refusal(f"no artifact {variables['collection']}:{variables['alias']}")
    files = {
        "__typename": "ArtifactSequence",
        "artifactMembership": {"files": replies.files(version, base, variables.get("fileNames"))},
    }
    return {"project": {"artifactCollection": files}}


@operation("ProjectArtifacts")
def _artifacts(state: State, variables: Variables, base: str) -> Reply:
    """Newest first."""
    collection = state.collections.get((variables["project"], variables["collection"]))
    connection = edges(
        replies.artifact(version, base) for version in reversed(collection.versions if collection else [])
    )
    for edge in connection["edges"]:
        edge["version"] = f"v{edge['node']['versionIndex']}"
    collection_reply = {"__typename": "ArtifactSequence", "artifacts": connection}
    return {"project": {"artifactType": {"artifactCollection": collection_reply}}}


# -- lineage -----------------------------------------------------------------------------------------------------------


@operation("UseArtifact")
def _use(state: State, variables: Variables, base: str) -> Reply:
    use = variables.get("input") or variables
    version = state.versions[use["artifactID"]]
    if use.get("runName"):
        state.inputs.append(Edge(use["runName"], version))
    return {"useArtifact": {"artifact": replies.artifact(version, base)}}


@operation("ArtifactUsedBy")
def _used_by(state: State, variables: Variables, base: str) -> Reply:
    names = {edge.run for edge in state.inputs if edge.version.id == variables["id"]}
    return {"artifact": {"usedBy": edges(replies.run(run) for run in state.runs.values() if run.name in names)}}


@operation("ArtifactCreatedBy")
def _created_by(state: State, variables: Variables, base: str) -> Reply:
    names = [edge.run for edge in state.outputs if edge.version.id == variables["id"]]
    maker = next((run for run in state.runs.values() if run.name in names[:1]), None)
    return {"artifact": {"createdBy": maker and replies.run(maker)}}


@operation("RunOutputArtifacts")
def _outputs(state: State, variables: Variables, base: str) -> Reply:
    versions = state.versions_of(state.outputs, variables["run"])
    return {"project": {"run": {"artifacts": edges(replies.artifact(version, base) for version in versions)}}}


@operation("RunInputArtifacts")
def _inputs(state: State, variables: Variables, base: str) -> Reply:
    versions = state.versions_of(state.inputs, variables["run"])
    return {"project": {"run": {"artifacts": edges(replies.artifact(version, base) for version in versions)}}}


# -- sweeps ------------------------------------------------------------------------------------------------------------


@operation("UpsertSweep")
def _upsert_sweep(state: State, variables: Variables, base: str) -> Reply:
    name = f"sweep{len(state.sweeps) + 1}"
    sweep = state.sweeps[name] = Sweep.grid(name, variables["projectName"], variables["config"])
    reply = {"id": name, "name": name, "project": replies.project(sweep.project)}
    return {"upsertSweep": {"sweep": reply, "configValidationWarnings": []}}


@operation("Sweep", "GetSweep", "GetSweepLegacy", "SweepWithRuns", "GetSweepState")
def _sweep(state: State, variables: Variables, base: str) -> Reply:
    sweep = state.sweeps.get(variables.get("sweep") or variables["name"])
    runs = [run for run in state.runs.values() if sweep and run.sweep == sweep.name]
    return {"project": {"sweep": sweep and replies.sweep(sweep, runs)}}


@operation("CreateAgent")
def _agent(state: State, variables: Variables, base: str) -> Reply:
    agent = state.new_id("Agent")
    state.agents[agent] = state.sweeps[variables["sweep"]]
    return {"createAgent": {"agent": {"id": agent}}}


@operation("Heartbeat")
def _heartbeat(state: State, variables: Variables, base: str) -> Reply:
    """An agent that runs nothing is told what to run next, or that it is done."""
    commands: list[Reply] = []
    if not json.loads(variables.get("runState") or "{}"):
        point = state.next_point(variables["id"])
        if point is None:
            commands = [{"type": "exit"}]
        else:
            sweep = state.agents[variables["id"]]
            count = len(state.runs)
            arguments = {name: {"value": value} for name, value in point.items()}
            name = f"{sweep.name}r{count}"
            state.run(sweep.project, name).sweep = sweep.name
            commands = [{"type": "run", "run_id": name, "program": sweep.program, "args": arguments}]
    return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}


# -- reports, workspaces, registries -----------------------------------------------------------------------------------


@operation("ProjectInternalId")
def _project(state: State, variables: Variables, base: str) -> Reply:
    return {"project": replies.project(variables["projectName"])}


@operation("GetProjects")
def _projects(state: State, variables: Variables, base: str) -> Reply:
    names = dict.fromkeys(project for project, _ in [*state.runs, *state.collections])
    return {"models": edges(replies.project(name) for name in names)}


@operation("upsertView", "UpsertView2")
def _upsert_view(state: State, variables: Variables, base: str) -> Reply:
    """By its id; without one it is new."""
    id_ = variables.get("id")
    if id_ and id_ not in state.views:
        raise Refusal(f"no view {id_}")
    json.loads(variables["spec"])
    view = View(
        id_ or state.new_id("View"),
        variables["projectName"],
        variables["type"],
        variables["name"],
        variables["displayName"],
        variables["description"],
        variables["spec"],
    )
    state.views[view.id] = view
    return {"upsertView": {"view": replies.view(view), "inserted": not id_}}


@operation("SpecificReport")
def _report(state: State, variables: Variables, base: str) -> Reply:
    view = state.views.get(variables["reportId"])
    return {"view": view and replies.view(view)}


@operation("ProjectViews", "View")
def _views(state: State, variables: Variables, base: str) -> Reply:
    """Those of a kind, or of a name."""
    kind, name = variables.get("viewType") or "runs", variables.get("viewName")
    views = [
        view
        for view in state.views.values()
        if view.project in (variables.get("project"), variables.get("projectName"))
        and view.type == kind
        and name in (None, view.name)
    ]
    return {"project": {"allViews": edges(map(replies.view, views))}}


@operation("FetchOrgInfoFromEntity")
def _organization_of(state: State, variables: Variables, base: str) -> Reply:
    organization = {"name": f"{ENTITY} inc", "orgEntity": {"name": f"{ENTITY}-org"}}
    return {"entity": {"organization": organization, "user": None}}


@operation("LinkArtifact")
def _link(state: State, variables: Variables, base: str) -> Reply:
    """Linked again, a version is there once."""
    link = variables["input"]
    if not link["projectName"].startswith("wandb-registry-"):
        raise Refusal(f"{link['projectName']} is no registry")
    version = state.versions[link["artifactID"]]
    members = state.links.setdefault((link["projectName"], link["artifactPortfolioName"]), [])
    if version not in members:
        members.append(version)
    return {"result": {"versionIndex": members.index(version), "artifactMembership": None}}
