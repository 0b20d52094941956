"""The server's endpoints: GraphQL, the runs' file stream, uploads and downloads; and the faults that a test asks for."""

import base64
import contextlib
import gzip
import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from tests.loopback.operations import OPERATIONS
from tests.loopback.state import ENTITY, Refusal, State

OPERATION = re.compile(r"(?:mutation|query)\s+(\w+)")


@dataclass
class Fault:
    """What happens to the next `times` requests whose `METHOD /path`, or operation, is matched by the pattern `at`.

    fail: 500, which a client tries again. refuse: 403, which it does not. drop: the connection is cut. hang: no answer
    until the server stops. drip: a byte now and then. flood: bytes without end. nonsense: an answer that is none.
    """

    kind: Literal["fail", "refuse", "drop", "hang", "drip", "flood", "nonsense"]
    at: str
    times: int = 10**9


class Server:
    """A context: serves at `base` on 127.0.0.1, and stops when the block ends. project: where WANDB_PROJECT points.

    calls: how often each operation was called. unhandled: what the client asked for and is not implemented here;
    a test that leaves some has failed.
    """

    def __init__(self, port: int = 0, project: str = "peel") -> None:
        self.state = State()
        self.project = project
        self.calls: Counter[str] = Counter()
        self.unhandled: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self.stopped = threading.Event()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._http.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What points a client at this server."""
        return {
            "WANDB_BASE_URL": self.base,
            "WANDB_API_KEY": "l" * 40,
            "WANDB_MODE": "online",
            "WANDB_ENTITY": ENTITY,
            "WANDB_PROJECT": self.project,
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()

    def references(self) -> dict[str, str]:
        """NAME:vN and NAME:ALIAS of all that is committed -> its digest."""
        digests: dict[str, str] = {}
        with self.lock:
            for collection in self.state.collections.values():
                digests |= {version.reference: version.digest for version in collection.versions}
                digests |= {
                    f"{collection.name}:{alias}": version.digest for alias, version in collection.aliases.items()
                }
        return digests

    def fault(self, *requests: str) -> str | None:
        """The kind of the fault that one of these descriptions of a request meets."""
        with self.lock:
            for fault in self.faults:
                if fault.times and any(re.search(fault.at, request) for request in requests):
                    fault.times -= 1
                    return fault.kind
        return None

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """A GraphQL request's reply."""
        match = OPERATION.search(query)
        name = match[1] if match else "unnamed"
        with self.lock:
            self.calls[name] += 1
            if name not in OPERATIONS:
                self.unhandled.append(f"{name} {json.dumps(variables)[:300]}\n{query[:1000]}")
                return {"errors": [{"message": f"operation {name} is not implemented"}]}
            try:
                return {"data": OPERATIONS[name](self.state, variables, self.base)}
            except Refusal as refusal:
                return {"errors": [{"message": str(refusal)}]}


class _Handler(BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client was killed, or has given up waiting
            self._answer(self._body())

    def _answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        request = f"{self.command} {path}"
        call = json.loads(body) if path == "/graphql" else None
        operation = OPERATION.search(call["query"]) if call else None
        match self.owner.fault(request, operation[1] if operation else request):
            case "drop":
                self.close_connection = True
                return
            case "hang":
                self.owner.stopped.wait()
                self.close_connection = True
                return
            case "drip" | "flood" as kind:
                return self._stream(b"x" if kind == "drip" else b"x" * 65536, 0.2 if kind == "drip" else 0.0)
            case "nonsense":
                return self._send(200, b'["nonsense"]')
            case "fail":
                return self._send(500, b'{"error": "asked to fail"}')
            case "refuse":
                return self._send(403, b'{"error": "asked to refuse"}')
        if call:
            return self._send(200, json.dumps(self.owner.answer(call["query"], call.get("variables") or {})).encode())
        try:
            with self.owner.lock:
                answer = self._rest(path, body)
        except (Refusal, KeyError, ValueError) as error:
            return self._send(400, json.dumps({"error": str(error)}).encode())
        if answer is None:
            self.owner.unhandled.append(request)
            return self._send(404, b"{}")
        self._send(200, answer)

    def _rest(self, path: str, body: bytes) -> bytes | None:
        """The answer to anything but GraphQL; None where there is no such endpoint."""
        state = self.owner.state
        if path.startswith("/sdk/otel/v1/"):  # how the client itself fares
            return b"{}"
        if stream := re.fullmatch(r"/files/[^/]+/([^/]+)/([^/]+)/file_stream", path):
            state.run(stream[1], stream[2]).receive(json.loads(body))
            return b'{"exitcode": null, "limits": {}}'
        if file := re.fullmatch(r"/file/([^/]+)/([^/]+)/(.+)", path):
            run = state.run(file[1], file[2])
            if self.command == "PUT":
                run.files[file[3]] = self._checked(body)
                return b""
            return run.files[file[3]]
        if manifest := re.fullmatch(r"/manifest/(.+)", path):
            version = state.versions[manifest[1]]
            if self.command == "PUT":
                version.manifest = self._checked(body)
                return b""
            return version.lie or version.manifest
        if blob := re.fullmatch(r"/blob/([0-9a-f]{32})", path):
            if self.command == "PUT":
                if hashlib.md5(self._checked(body)).hexdigest() != blob[1]:
                    raise Refusal(f"these bytes do not have the MD5 {blob[1]}")
                state.blobs[blob[1]] = body
                return b""
            return state.blobs[blob[1]]
        return None

    def _checked(self, body: bytes) -> bytes:
        """The body, where it is what the client meant to send."""
        expected = self.headers.get("Content-MD5")
        if expected and base64.b64decode(expected) != hashlib.md5(body).digest():
            raise Refusal("these bytes do not have the declared Content-MD5")
        return body

    def _body(self) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(pieces)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _stream(self, piece: bytes, pause: float) -> None:
        self.close_connection = True
        self.send_response(200)
        self.end_headers()
        while not self.owner.stopped.wait(pause):
            self.wfile.write(piece)

    def _send(self, code: int, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
