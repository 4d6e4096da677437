"""A stand-in for the W&B server: the GraphQL and file answers that the wandb library needs."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VIEWER = {
    "id": "VXNlcjox", "entity": "me", "username": "me", "email": "me@here", "flags": "{}",
    "teams": {"edges": []},
}  # fmt: skip


@dataclass
class Run:
    """The data that a run has sent: configuration, history, summary, and exit code at its end."""

    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


class WandbServer(ThreadingHTTPServer):
    """Serve configurations of runs and one artifact; record requests and the data of new runs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.configs: dict[str, Mapping[str, Any]] = {}  # id of an existing run -> configuration
        self.files: dict[str, bytes] = {}  # of the one artifact, me/project/thing
        self.references: dict[str, str] = {}  # name in the artifact -> target of the reference
        self.runs: dict[str, Run] = {}  # id -> run that was logged here
        self.artifacts: list[tuple[str, str, list[str]]] = []  # name, type, aliases
        self.used: list[str] = []  # ids of the artifacts that runs used
        self.asked: list[str] = []  # keys in ANSWERS of the queries so far
        self.unknown: list[str] = []  # queries without an answer in ANSWERS
        self.nonsense: set[str] = set()  # keys in ANSWERS that get an empty answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self) -> dict[str, str]:
        """Return the environment variables that connect the library to this server."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "0" * 40, "WANDB_SILENT": "true"}

    def die(self) -> None:
        """Stop answering, and refuse connections."""
        self.shutdown()
        self.socket.close()

    def answer(self, query: str, variables: Mapping[str, Any]) -> Any:
        """Return the data that answers a GraphQL query."""
        for key, reply in ANSWERS.items():
            if key in query and key not in self.nonsense:
                self.asked.append(key)
                return reply(self, variables)
        self.unknown.append(query)
        return {}


def run_of(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    name = variables["name"]
    if name not in server.configs:
        return {"project": {"run": None}}
    config = {key: {"value": value, "desc": None} for key, value in server.configs[name].items()}
    run = {
        "projectId": "1", "id": "UnVuOjE=", "tags": [], "name": name, "displayName": name,
        "sweepName": None, "state": "finished", "config": json.dumps(config), "group": None,
        "jobType": None, "commit": None, "readOnly": False, "createdAt": "2026-01-01T00:00:00",
        "heartbeatAt": "2026-01-01T00:00:00", "description": "", "notes": "", "systemMetrics": "{}",
        "summaryMetrics": "{}", "historyLineCount": 0, "historyKeys": None,
        "user": {"name": "me", "username": "me"},
    }  # fmt: skip
    return {"project": {"run": run}}


PROJECT = {"id": "UHJvamVjdDox", "internalId": "1", "name": "project", "entity": {"name": "me"}}
COLLECTION = {"__typename": "ArtifactSequence", "name": "thing", "project": PROJECT}


def membership(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    if not variables["name"].startswith("thing:"):
        return {"project": {"artifactCollectionMembership": None}}
    member = {
        "__typename": "ArtifactCollectionMembership", "id": "bTox", "versionIndex": 0,
        "createdAt": "2026-01-01T00:00:00Z", "artifactCollection": COLLECTION,
        "artifact": artifact(server),
        "aliases": [{"__typename": "ArtifactAlias", "id": "YTox", "alias": "best"}],
    }  # fmt: skip
    return {"project": {"artifactCollectionMembership": member}}


def artifact(server: WandbServer) -> dict[str, Any]:
    return {
        "__typename": "Artifact", "id": "QXJ0aWZhY3Q6MQ==", "artifactSequence": COLLECTION,
        "versionIndex": 0, "artifactType": {"name": "model"}, "description": None, "metadata": "{}",
        "ttlDurationSeconds": -2, "ttlIsInherited": False, "tags": [], "historyStep": None,
        "state": "COMMITTED", "size": sum(map(len, server.files.values())), "digest": "d1ge5t",
        "commitHash": "x", "fileCount": len(server.files), "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": "2026-01-01T00:00:00Z", "aliases": [],
    }  # fmt: skip


def manifest(server: WandbServer, _: Mapping[str, Any]) -> Any:
    file = {"directUrl": f"{server.url}/manifest"}
    return {"artifact": {"currentManifest": {"file": file}}}


def file_urls(server: WandbServer, _: Mapping[str, Any]) -> Any:
    edges = [
        {"node": {"__typename": "File", "name": name, "directUrl": f"{server.url}/file/{number}"}}
        for number, name in enumerate(server.files)
    ]
    page = {"__typename": "PageInfo", "hasNextPage": False, "endCursor": None}
    files = {"pageInfo": page, "edges": edges}
    collection = {"__typename": "ArtifactSequence", "artifactMembership": {"files": files}}
    return {"project": {"artifactCollection": collection}}


def resume_status(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    """Return the state from which the library resumes a run."""
    run = server.runs.get(variables["name"])
    if run is None:
        return {"model": None}
    bucket = {
        "id": "QnVja2V0OjE=", "name": variables["name"], "summaryMetrics": json.dumps(run.summary),
        "displayName": "run", "logLineCount": 0, "historyLineCount": len(run.history),
        "eventsLineCount": 0, "historyTail": json.dumps([json.dumps(run.history[-1])]),
        "eventsTail": "[]", "config": json.dumps(run.config), "tags": [], "notes": "",
        "wandbConfig": "{}",
    }  # fmt: skip
    entity = {"id": "e", "name": "me"}
    return {"model": {"id": "p", "name": "project", "entity": entity, "bucket": bucket}}


def upsert_run(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    """Create or update a run."""
    run = server.runs.setdefault(variables["name"], Run())
    run.config |= json.loads(variables.get("config") or "{}")
    bucket = {
        "id": "QnVja2V0OjE=", "name": variables["name"], "displayName": "run", "description": "",
        "config": "{}", "sweepName": None, "historyLineCount": len(run.history),
        "createdAt": "2026-01-01T00:00:00", "summaryMetrics": "{}",
        "project": {"id": "p", "name": "project", "entity": {"id": "e", "name": "me"}},
    }  # fmt: skip
    return {"upsertBucket": {"bucket": bucket, "inserted": not run.history}}


def create_artifact(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    """Record an artifact, and answer that its content is stored already: then no file is sent."""
    fields = variables["input"]
    aliases = sorted(entry["alias"] for entry in fields["aliases"])
    server.artifacts.append((fields["artifactCollectionName"], fields["artifactTypeName"], aliases))
    record = {"id": f"artifact{len(server.artifacts)}", "state": "COMMITTED"}
    return {"createArtifact": {"artifact": record | {"artifactSequence": {"latestArtifact": None}}}}


def use_artifact(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    """Record the artifact that a run uses."""
    fields = variables.get("input", variables)
    name = next(value for key, value in fields.items() if key.lower() == "artifactid")
    server.used.append(name)
    return {"useArtifact": {"artifact": {"id": name}}}


def digest(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


ANSWERS: dict[str, Callable[[WandbServer, Mapping[str, Any]], Any]] = {
    "viewer": lambda *_: {"viewer": VIEWER},
    "query Run(": run_of,
    "RunResumeStatus": resume_status,
    "UpsertBucket": upsert_run,
    "CreateRunFiles": lambda *_: {
        "createRunFiles": {"runID": "QnVja2V0OjE=", "uploadHeaders": [], "files": []}
    },
    "mutation CreateArtifact ": create_artifact,
    "query ArtifactByID": lambda server, _: {"artifact": artifact(server)},
    "mutation UseArtifact": use_artifact,
    "query ArtifactType(": lambda *_: {"project": {"artifact": None}},
    "OrganizationCoreWeave": lambda *_: {"entity": None},
    "ArtifactMembershipByName": membership,
    "FetchArtifactManifest": manifest,
    "ArtifactMembershipFileUrls": file_urls,
    "serverInfo": lambda *_: {"serverInfo": {"features": []}},
}


class Handler(BaseHTTPRequestHandler):
    server: WandbServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        files = self.server.files
        if self.path == "/manifest":
            contents: dict[str, Any] = {
                name: {"digest": digest(content), "size": len(content), "birthArtifactID": "x"}
                for name, content in files.items()
            }
            for name, target in self.server.references.items():
                contents[name] = {"digest": "x", "ref": target, "size": 1}
            policy = {"storageLayout": "V2"}
            manifest = {"version": 1, "storagePolicy": "wandb-storage-policy-v1",
                        "storagePolicyConfig": policy, "contents": contents}  # fmt: skip
            self.reply(json.dumps(manifest).encode())
        elif self.path.startswith("/file/"):
            self.server.asked.append("file")
            self.reply(list(files.values())[int(self.path.rpartition("/")[2])])
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.endswith("/file_stream"):
            run = self.server.runs[self.path.split("/")[-2]]
            content = json.loads(body)
            for name, chunk in (content.get("files") or {}).items():
                rows = [json.loads(line) for line in chunk["content"]]
                if name == "wandb-history.jsonl":
                    run.history += rows
                elif name == "wandb-summary.json":
                    run.summary |= rows[-1]
            run.exit_code = content.get("exitcode") if content.get("complete") else run.exit_code
        if self.path != "/graphql":
            self.reply(b"{}")
            return
        request = json.loads(body)
        data = self.server.answer(request["query"], request.get("variables") or {})
        self.reply(json.dumps({"data": data}).encode())

    def reply(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving() -> Iterator[WandbServer]:
    """Yield a server that answers until the end of the block."""
    with WandbServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
