"""A hub on this machine that keeps what it is sent, to push to with the real client."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


class LocalHub(ThreadingHTTPServer):
    """As much of the hub's interface as making a repository and committing small files takes."""

    def __init__(self, refuse: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.refuse = refuse
        self.asked: list[str] = []
        self.files: dict[str, bytes] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: LocalHub
    not_here: ClassVar[tuple[int, object]] = (404, {"error": "not here"})

    def do_GET(self) -> None:
        self.server.asked.append(f"GET {self.path}")
        self._answer(*self.not_here)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.asked.append(f"POST {self.path}")
        if self.server.refuse:
            self._answer(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            self._answer(200, {"url": f"{self.server.url}/somebody/digits"})
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif self.path == "/api/models/somebody/digits/preupload/main":
            sent = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self._answer(200, {"files": [{**file, "shouldIgnore": False} for file in sent]})
        elif self.path == "/api/models/somebody/digits/commit/main":
            entries = [json.loads(line) for line in body.decode().splitlines()]
            files = [entry["value"] for entry in entries if entry["key"] == "file"]
            self.server.files |= {file["path"]: base64.b64decode(file["content"]) for file in files}
            self._answer(
                200, {"commitUrl": f"{self.server.url}/somebody/digits/commit/1", "commitOid": "1", "success": True}
            )
        else:
            self._answer(*self.not_here)

    def _answer(self, code: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def hub_here(refuse: bool = False) -> Iterator[LocalHub]:
    hub = LocalHub(refuse)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
