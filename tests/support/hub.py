"""A Hub on loopback that serves MiniLM's real files, and misbehaves on request."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from helpers import artifacts

FILES = artifacts.bundled_directory(artifacts.MINILM)
WEIGHTS = "model.safetensors"


class Hub(ThreadingHTTPServer):
    """Serves MiniLM's real files as the Hub does.

    It answers with the revision, with its tree, and with every file: HEAD, and GET with ranges.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.status = 200  # of everything
        self.silent = False  # takes connections, never answers
        self.altered = False  # the weights have one other byte
        self.cut = 0  # so many answers with the weights stop half way
        self.pause = 0.0  # seconds in the middle of the weights
        self.half_sent = threading.Event()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        hub = self.server
        if hub.silent:
            hub.half_sent.wait(60)
        path = self.path.split("?")[0]
        if hub.status != 200:
            return self.say(b"{}", hub.status)
        if "/tree/" in path:
            tree = [
                {
                    "type": "file",
                    "path": name,
                    "size": (FILES / name).stat().st_size,
                    "oid": artifacts.MINILM.files[name][:40],
                }
                for name in artifacts.MINILM.files
            ]
            return self.say(json.dumps(tree).encode())
        if "/resolve/" in path:
            return self.file(path.split("/resolve/")[1].split("/", 1)[1])
        return self.say(
            json.dumps(
                {"id": artifacts.MINILM.repo_id, "sha": artifacts.MINILM.revision, "siblings": []}
            ).encode()
        )

    do_HEAD = do_GET

    def say(self, body, status=200, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def file(self, name):
        hub, data = self.server, (FILES / name).read_bytes()
        headers = {
            "ETag": f'"{artifacts.MINILM.files[name]}"',
            "X_Repo_Commit": artifacts.MINILM.revision,
        }
        if name != WEIGHTS or self.command == "HEAD":
            return self.say(data, **headers)
        if hub.altered:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        rest = data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        half = 0 if start and hub.cut else len(rest) // 2  # the second time not a byte: no progress
        self.wfile.write(rest[:half])
        hub.half_sent.set()
        if hub.cut:
            hub.cut -= 1
            self.close_connection = True
            return None
        time.sleep(hub.pause)
        return self.wfile.write(rest[half:])
