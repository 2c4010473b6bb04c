"""A hub on the loopback interface for tests, and a client: repositories from a folder, faults on demand, all counted.

It answers what a client needs to read a file, as the real hub does: HEAD and GET of `/OWNER/NAME/resolve/REV/FILE`
with commit, ETag (the SHA-256 of large files) and byte ranges; large files by a redirect to a signed address on
another origin (a second port), which refuses an Authorization header. `/api/models/OWNER/NAME/revision/REV` lists the
files.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from mkfa.banks.bank import FilterBank
from mkfa.banks.bank_file import read_bank

LARGE = (".safetensors", ".bin")


@dataclass
class Fault:
    """What goes wrong: of requests by `method` whose path matches, the first `skip` pass, the next `times` fail.

    Kinds, with `value`: "status" (answered instead), "drop" (hang up after so many body bytes), "unframed" (the same,
    without a Content-Length that would tell), "stall" (sleep so many seconds before answering), "trickle" (body bytes
    a second), "ignore_range" (200 and the whole file), "lie_range" (right bytes, Content-Range one further), "shift"
    (right headers, bytes from `value` later on), "short" (206 with `value` bytes fewer), "truncate" (as if the file
    had only `value` bytes), "huge_header" (first 8 bytes say `value`), "corrupt" (flips the byte at offset `value`),
    "expired" (403 for the first signed address), "version" (the right bytes, an ETag that no other reply has),
    "unversioned" (the right bytes, no ETag).
    """

    kind: str
    value: int = 0
    path: str = "*"
    method: str = "GET"
    times: int = 1 << 30
    skip: int = 0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """One request as the server saw it; `sent` counts body bytes."""

    method: str
    path: str
    range: str
    token: bool
    origin: str
    status: int = 0
    sent: int = 0


class HubServer:
    """Serves `root/OWNER/NAME/FILE`; a context manager.

    Parameters
    ----------
    signed : redirect large files to the second origin.
    token : refuse requests without it, as for a gated repository.
    delay : seconds added to every request.
    rate : bytes a second of one connection, 0 for as many as there are.
    """

    def __init__(
        self, root: Path, *, signed: bool = True, token: str = "", delay: float = 0.0, rate: float = 0.0
    ) -> None:
        self.root, self.signed, self.token, self.delay, self.rate = root, signed, token, delay, rate
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.signatures = 0
        self._digests: dict[tuple[Path, int, int], str] = {}
        self._lock = threading.Lock()
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Handler) for _ in range(2)]
        for server, origin in zip(self._servers, ("hub", "store"), strict=True):
            server.daemon_threads = True
            server.hub, server.origin = self, origin  # type: ignore[attr-defined]
        self.url, self.store_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def __enter__(self) -> HubServer:
        for file in self.root.rglob("*"):
            if file.is_file():
                self.sha256(file)  # hashed now, not while a client waits
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def sent(self) -> int:
        """Body bytes sent so far."""
        return sum(request.sent for request in self.log)

    def sha256(self, file: Path) -> str:
        stat = file.stat()
        key = (file, stat.st_size, stat.st_mtime_ns)
        if key not in self._digests:
            with file.open("rb") as f:
                self._digests[key] = hashlib.file_digest(f, "sha256").hexdigest()
        return self._digests[key]

    def commit(self, repo: str) -> str:
        """Return the repository's commit: it changes with its files."""
        files = sorted(p for p in (self.root / repo).rglob("*") if p.is_file())
        return hashlib.sha1("".join(p.name + self.sha256(p) for p in files).encode()).hexdigest()

    def fault(self, method: str, path: str) -> Fault | None:
        """Return the fault that this request meets, and count it."""
        with self._lock:
            for fault in self.faults:
                if fault.method != method or not fnmatch.fnmatch(path, fault.path):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                elif fault.times > 0:
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections, as the hub does
    disable_nagle_algorithm = True  # else every answer waits for a delayed acknowledgement

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        hub: HubServer = self.server.hub  # type: ignore[attr-defined]
        origin: str = self.server.origin  # type: ignore[attr-defined]
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.request_log = Request(
            self.command, path, self.headers.get("Range", ""), "Authorization" in self.headers, origin
        )
        hub.log.append(self.request_log)
        time.sleep(hub.delay)
        fault = hub.fault(self.command, path)
        if fault and fault.kind == "stall":
            time.sleep(fault.value)
        if fault and fault.kind == "status":
            return self._fail(fault.value, fault.headers)
        if origin == "store":
            return self._store(hub, path, parse_qs(url.query), fault)
        if listed := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/([^/]+)", path):
            return self._list(hub, *listed.groups())
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if not match:
            return self._fail(404)
        repo, revision, name = match.groups()
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._fail(401, {"X-Error-Code": "GatedRepo"})
        if not (hub.root / repo).is_dir():
            return self._fail(404, {"X-Error-Code": "RepoNotFound"})
        commit = hub.commit(repo)
        if revision not in ("main", commit):
            return self._fail(404, {"X-Error-Code": "RevisionNotFound"})
        file = hub.root / repo / name
        if not file.is_file():
            return self._fail(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        head = {"X-Repo-Commit": commit, "ETag": f'"{hub.sha256(file)[:40]}"'}
        if file.suffix in LARGE:
            head |= {"X-Linked-ETag": f'"{hub.sha256(file)}"', "X-Linked-Size": str(file.stat().st_size)}
            head["ETag"] = head["X-Linked-ETag"]
            if hub.signed:
                hub.signatures += 1
                to = f"{hub.store_url}/{repo}/{name}?signature={hub.signatures}"
                return self._send(302, {**head, "Location": to}, b"")
        self._file(file, head, fault)

    do_HEAD = do_GET = _answer

    def _list(self, hub: HubServer, repo: str, revision: str) -> None:
        folder = hub.root / repo
        if not folder.is_dir() or revision not in ("main", hub.commit(repo)):
            return self._fail(404)
        names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        told = {"sha": hub.commit(repo), "siblings": [{"rfilename": name} for name in names]}
        self._send(200, {"Content-Type": "application/json"}, json.dumps(told).encode())

    def _store(self, hub: HubServer, path: str, query: dict[str, list[str]], fault: Fault | None) -> None:
        if "Authorization" in self.headers or "signature" not in query:
            return self._fail(400)
        if fault and fault.kind == "expired" and query["signature"] == ["1"]:
            return self._fail(403)
        file = hub.root / path.lstrip("/")
        self._file(file, {"ETag": f'"{hub.sha256(file)[:32]}"'} if file.is_file() else {}, fault)

    def _file(self, file: Path, head: dict[str, str], fault: Fault | None) -> None:
        hub: HubServer = self.server.hub  # type: ignore[attr-defined]
        kind, value = (fault.kind, fault.value) if fault else ("", 0)
        size = min(file.stat().st_size, value) if kind == "truncate" else file.stat().st_size
        start, stop, status = 0, size, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and kind != "ignore_range":
            start, stop, status = int(asked[1]), min(int(asked[2] or size) + 1, size), 206
            if start >= stop:
                return self._fail(416, {"Content-Range": f"bytes */{size}"})
            stop = max(stop - value, start) if kind == "short" else stop
            head = {**head, "Content-Range": f"bytes {start + (kind == 'lie_range')}-{stop - 1}/{size}"}
        if kind in ("version", "unversioned"):
            head = {key: value for key, value in head.items() if key != "ETag"}
            head |= {"ETag": f'"{len(hub.log)}"'} if kind == "version" else {}
        framing = {"Connection": "close"} if kind == "unframed" else {"Content-Length": str(stop - start)}
        self._head(status, {**framing, "Accept-Ranges": "bytes", **head})
        if self.command == "HEAD":
            return
        end = min(stop, start + value) if kind in ("drop", "unframed") else stop
        with file.open("rb") as f:
            f.seek(start + (value if kind == "shift" else 0))
            at = start
            while at < end:
                step = min(end - at, max(value // 10, 1) if kind == "trickle" else 1 << 18)
                block = bytearray(f.read(step).ljust(step, b"\0"))
                if kind == "huge_header" and at == 0:
                    block[:8] = struct.pack("<Q", value)
                if kind == "corrupt" and at <= value < at + step:
                    block[value - at] ^= 0xFF
                if not self._write(bytes(block)):
                    return
                at += step
                time.sleep(0.1 if kind == "trickle" else step / hub.rate if hub.rate else 0)
        if end < stop:
            self.close_connection = True

    def _fail(self, status: int, headers: dict[str, str] | None = None) -> None:
        self._send(status, {"Content-Type": "application/json", **(headers or {})}, b'{"error": "see the status"}')

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self._head(status, {"Content-Length": str(len(body)), **headers})
        if self.command != "HEAD":
            self._write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.request_log.status = status
        self.send_response_only(status)
        for key, value in headers.items():
            self.send_header(key, value)
        with contextlib.suppress(OSError):
            self.end_headers()

    def _write(self, data: bytes) -> bool:
        self.request_log.sent += len(data)  # before sending: a client may ask once it has the bytes
        try:
            self.wfile.write(data)
        except OSError:  # the client hung up
            self.close_connection = True
            return False
        return True


def convnext_shapes(depths: tuple[int, ...], dims: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a timm ConvNeXt's state dict (Liu et al., CVPR 2022; 1000 classes)."""
    shapes: dict[str, tuple[int, ...]] = {"stem.0.weight": (dims[0], 3, 4, 4), "stem.0.bias": (dims[0],)}
    shapes |= {"stem.1.weight": (dims[0],), "stem.1.bias": (dims[0],)}
    for s, (depth, c) in enumerate(zip(depths, dims, strict=True)):
        if s:
            before, at = dims[s - 1], f"stages.{s}.downsample"
            shapes |= {f"{at}.0.weight": (before,), f"{at}.0.bias": (before,)}
            shapes |= {f"{at}.1.weight": (c, before, 2, 2), f"{at}.1.bias": (c,)}
        for b in range(depth):
            at = f"stages.{s}.blocks.{b}"
            shapes |= {f"{at}.gamma": (c,), f"{at}.conv_dw.weight": (c, 1, 7, 7), f"{at}.conv_dw.bias": (c,)}
            shapes |= {f"{at}.norm.weight": (c,), f"{at}.norm.bias": (c,)}
            shapes |= {f"{at}.mlp.fc1.weight": (4 * c, c), f"{at}.mlp.fc1.bias": (4 * c,)}
            shapes |= {f"{at}.mlp.fc2.weight": (c, 4 * c), f"{at}.mlp.fc2.bias": (c,)}
    c = dims[-1]
    shapes |= {"head.norm.weight": (c,), "head.norm.bias": (c,)}
    return shapes | {"head.fc.weight": (1000, c), "head.fc.bias": (1000,)}


CONVNEXT_ATTO = convnext_shapes((2, 2, 6, 2), (40, 80, 160, 320))
CONVNEXT_BASE = convnext_shapes((3, 3, 27, 3), (128, 256, 512, 1024))


def write_safetensors(path: Path, shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Write a float32 safetensors file with sorted names, as timm's files have; return the small and 4-D tensors.

    Large matrices are left as holes of the file (zeros), so that a file of hundreds of megabytes costs little disk.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for key in sorted(shapes):
        size = 4 * int(np.prod(shapes[key]))
        header[key] = {"dtype": "F32", "shape": list(shapes[key]), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = {}
    with path.open("wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for key in sorted(shapes):
            size = int(np.prod(shapes[key]))
            if len(shapes[key]) == 2 and size > 1 << 18:
                f.seek(4 * size, 1)
                continue
            written[key] = rng.standard_normal(shapes[key]).astype("<f4")
            f.write(written[key].tobytes())
        f.truncate(8 + len(text) + at)
    return written


def walk_log(hub: HubServer) -> Iterator[str]:
    """Yield the requests as 'METHOD status range', for the message of a failing test."""
    for r in hub.log:
        yield f"{r.origin} {r.method} {r.path} {r.range} -> {r.status}, {r.sent} bytes"


CHILD = textwrap.dedent("""
    import json, sys
    from mkfa.errors import MkfaError
    from mkfa.readers.harvesting import harvest
    from mkfa.readers.hub import requests as hub_http
    from mkfa.banks.bank_file import write_bank

    source, out, architecture, constants = sys.argv[1:]
    for name, value in json.loads(constants).items():
        setattr(hub_http, name, value)
    try:
        write_bank(harvest(source, arch=architecture), out)
    except MkfaError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(json.dumps(sorted(name for name in ("timm", "torch") if name in sys.modules)))
""")

CHILD_OF_MANY = textwrap.dedent("""
    import json, sys, time
    from mkfa.errors import MkfaError
    from mkfa.readers.harvesting import harvest
    from mkfa.readers.hub import requests as hub_http
    from mkfa.banks.bank_file import write_bank

    folder, constants, *sources = sys.argv[1:]
    for name, value in json.loads(constants).items():
        setattr(hub_http, name, value)
    for i, source in enumerate(sources):
        start, code, message = time.monotonic(), 0, ""
        try:
            write_bank(harvest(source), f"{folder}/bank-{i}.h5")
        except MkfaError as error:
            code, message = error.exit_code, str(error)
        except Exception as error:
            code, message = -1, repr(error)
        print(json.dumps([code, message, time.monotonic() - start]))
""")


@dataclass(frozen=True)
class Run:
    """One harvest in a process of its own: exit code, message, bank (None when it failed), heavy imports, seconds."""

    code: int
    message: str
    bank: FilterBank | None
    imported: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Client:
    """Harvests from `hub` in child processes (huggingface_hub reads its environment when it is imported).

    A failing child must print one line, no traceback, and leave no bank and no part of one in `folder`.
    """

    hub: HubServer
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        drop = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        home = str(self.folder / "hf")
        return {**drop, "HF_ENDPOINT": self.hub.url, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1"}

    def __call__(
        self, source: str, architecture: str = "", env: dict[str, str] | None = None, **constants: float
    ) -> Run:
        """Harvest; `env` adds to the environment, `constants` replace those of `mkfa.readers.hub.requests`."""
        out = self.folder / "bank.h5"
        out.unlink(missing_ok=True)
        told = json.dumps({"FIRST_WAIT": 0.01, **constants})
        command = [sys.executable, "-c", CHILD, source, str(out), architecture, told]
        start = time.monotonic()
        done = subprocess.run(
            command, env={**self.environment, **(env or {})}, capture_output=True, text=True, timeout=60, check=False
        )
        seconds = time.monotonic() - start
        if done.returncode:
            assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, done.stderr
            assert not [p for p in self.folder.iterdir() if "bank.h5" in p.name], "something was left behind"
            return Run(done.returncode, done.stderr.strip(), None, (), seconds)
        return Run(0, done.stderr, read_bank(out), tuple(json.loads(done.stdout)), seconds)

    def many(self, sources: list[str], **constants: float) -> list[Run]:
        """Harvest several sources in one child process (quicker; one session and one cache for all)."""
        told = json.dumps({"FIRST_WAIT": 0.01, **constants})
        command = [sys.executable, "-c", CHILD_OF_MANY, str(self.folder), told, *sources]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        runs = []
        for i, line in enumerate(done.stdout.splitlines()):
            code, message, seconds = json.loads(line)
            left = [path for path in self.folder.iterdir() if f"bank-{i}.h5" in path.name]
            assert len(left) == (code == 0), left
            runs.append(Run(code, message, None if code else read_bank(left[0]), (), seconds))
        return runs
