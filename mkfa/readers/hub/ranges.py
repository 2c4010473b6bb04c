"""Tensors of a safetensors file on a hub, read by byte ranges at one pinned commit.

Only the header and the wanted tensors are fetched: neighbouring tensors in one request, eight requests at a time.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from mkfa.array_types import F32
from mkfa.errors import WorkError
from mkfa.readers.hub.requests import (
    REDIRECTS,
    Reply,
    endpoint,
    get_range,
    head,
    origin,
    own_headers,
    plain_headers,
    redirect_target,
    refusal,
)
from mkfa.readers.reading import TensorInfo
from mkfa.readers.tensors.dtypes import check_float, to_float32
from mkfa.readers.tensors.safetensors import header_size, parse_header
from mkfa.words import counted

PROBE = 64 << 10
"""Bytes fetched first; the headers of all but the largest networks are shorter."""
GAP = 64 << 10
"""Gaps up to this size between two tensors are fetched too, which costs less than another request."""
THREADS = 8
"""Ranges fetched at a time: at 100 ms a request, 8 threads took 0.75 s where one took 4.5 s, and 16 took 0.53 s."""


class ChangedError(WorkError):
    """The file on the hub changed while it was read; reading may start over."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """One file of a hub repository at one commit.

    Attributes
    ----------
    commit : "" if the server does not state it.
    sha256 : digest that the hub states, else "". It is not verified, since only parts are fetched.
    size : bytes.
    url : address at this commit, on the hub.
    etag : version of the file, as the server that has it states it; "" if that is another server.
    location : signed address on another server that the hub redirects to; "" if the hub serves the file itself.
    """

    repo: str
    file: str
    commit: str
    sha256: str
    size: int
    url: str
    etag: str
    location: str

    @property
    def thing(self) -> str:
        return f"{self.repo}/{self.file}"


def pin(repo: str, file: str, revision: str = "", *, retries: int | None = None) -> Pinned | None:
    """Ask the hub for a file's commit, digest, size and address; None if the repository does not have the file.

    huggingface_hub's own `get_hf_file_metadata` is not used, because here the ETag and the origin are checked at every
    redirect, and the number of retries is bounded.

    `retries` as for `mkfa.readers.hub.requests.head`.

    Raises SourceError: the repository or revision does not exist, or is private or gated. Raises WorkError: the hub
    cannot be reached, or every attempt failed.
    """
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(repo, file, revision=revision or None, endpoint=endpoint())
    commit, etag, own_etag, location = "", "", "", ""
    for _ in range(REDIRECTS):
        reply = head(url, f"{repo}/{file}", retries=retries)
        if reply.status == 404 and reply.headers.get("x-error-code", "") not in ("RepoNotFound", "RevisionNotFound"):
            return None
        if reply.status >= 400:
            raise refusal(reply, repo, file=file, revision=revision)
        commit = commit or reply.headers.get("x-repo-commit", "")
        etag = etag or reply.headers.get("x-linked-etag", "")
        size = reply.headers.get("x-linked-size", "")
        if reply.status < 300:
            own_etag = _version(reply)
            etag, size = etag or own_etag, size or reply.headers.get("content-length", "")
            break
        target = redirect_target(url, reply, f"{repo}/{file}")
        if origin(target) != origin(url):
            location = target
            break
        url = target
    digest = etag.removeprefix("W/").strip('"').lower()
    sha256 = digest if re.fullmatch(r"[0-9a-f]{64}", digest) else ""
    if not re.fullmatch(r"[0-9]{1,18}", size):
        raise WorkError(f"{repo}/{file}", "is on a hub that does not state its size", "fetch the file by other means")
    pinned = hf_hub_url(repo, file, revision=commit or revision or None, endpoint=endpoint())
    return Pinned(repo, file, commit, sha256, int(size), pinned, own_etag, location)


class RangedFile:
    """A safetensors file on a hub, as a `mkfa.readers.reading.TensorFile`.

    The constructor fetches the header. It raises SourceError if the header is damaged, RangeIgnoredError if the server
    does not support ranges, ChangedError if another version of the file answers, WorkError if the network fails.
    """

    def __init__(self, pinned: Pinned) -> None:
        self.pinned = pinned
        self._own, self._plain = own_headers(), plain_headers()
        self._location = pinned.location
        self._cause: BaseException | None = None
        self._versions = {origin(pinned.url): pinned.etag} if pinned.etag else {}
        self._start = b""
        self._start = self._bytes(0, min(PROBE, pinned.size))
        end = header_size(self._start, pinned.size, pinned.thing)
        if end > len(self._start):
            self._start += self._bytes(len(self._start), end)
        self._header = parse_header(self._start, pinned.size, pinned.thing)

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """All tensors, in the order of the file."""
        return self._header.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself."""
        return self._header.metadata

    def cost(self, keys: Iterable[str]) -> int:
        """Return the bytes that `read(keys)` would fetch, with the gaps between neighbouring tensors."""
        return sum(stop - start for start, stop in self._spans(keys))

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, F32]]:
        """Yield (key, tensor as float32) as the ranges arrive; raises as the constructor does."""
        stop = threading.Event()
        with ThreadPoolExecutor(THREADS, thread_name_prefix="mkfa-hub") as pool:
            pending = {pool.submit(self._bytes, *span, stop): span for span in self._spans(keys)}
            try:
                for future in as_completed(pending):
                    start, end = pending[future]
                    data = memoryview(future.result())
                    for key in keys:
                        first, last = self._header.spans[key]
                        if start <= first and last <= end:
                            yield key, self._tensor(key, data[first - start : last - start])
            except Exception as error:
                raise self._cause or error from None  # not the error of a range that was cancelled
            finally:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)

    def _tensor(self, key: str, data: memoryview) -> F32:
        info = self.tensors[key]
        check_float(self.pinned.thing, info)
        return to_float32(data, info.dtype).reshape(info.shape)

    def _spans(self, keys: Iterable[str]) -> list[tuple[int, int]]:
        """Return the byte ranges to fetch, ascending; neighbouring tensors share one."""
        spans: list[tuple[int, int]] = []
        for start, stop in sorted(self._header.spans[key] for key in set(keys)):
            if spans and start - spans[-1][1] <= GAP:
                spans[-1] = spans[-1][0], max(stop, spans[-1][1])
            else:
                spans.append((start, stop))
        return spans

    def _bytes(self, start: int, end: int, stop: threading.Event | None = None) -> bytes:
        """Return bytes [start, end). A failure sets `stop`, after which nothing is requested."""
        if end <= len(self._start):
            return self._start[start:end]
        stop = stop or threading.Event()
        if stop.is_set():
            raise WorkError(self.pinned.thing, "was cancelled, since another part failed", "try again later")
        try:
            return self._fetch((start, end), stop)
        except BaseException as error:
            if not stop.is_set():
                self._cause = error
            stop.set()
            raise

    def _fetch(self, span: tuple[int, int], stop: threading.Event) -> bytes:
        size, thing = self.pinned.size, self.pinned.thing
        location = self._location
        if location:
            reply = get_range(location, self._plain, span, size=size, thing=thing, stop=stop)
            if reply.status == 206:
                return self._same_version(reply).body
            self._location = ""  # expired, or bound to another range: the hub redirects to a fresh one
        reply = get_range(self.pinned.url, self._own, span, size=size, thing=thing, stop=stop)
        if reply.status == 206:
            return self._same_version(reply).body
        if reply.status == 416:
            raise WorkError(
                thing, f"is shorter than the {counted(size, 'byte')} that the hub stated", "try again later"
            )
        raise refusal(reply, self.pinned.repo, file=self.pinned.file, revision=self.pinned.commit)

    def _same_version(self, reply: Reply) -> Reply:
        """Return the reply if its bytes are of the file that the others are of; servers name versions in their way."""
        first = self._versions.setdefault(origin(reply.url), _version(reply))
        if _version(reply) != first or (reply.commit and self.pinned.commit not in ("", reply.commit)):
            raise ChangedError(self.pinned.thing, "changed on the hub while it was read", "try again")
        return reply


def _version(reply: Reply) -> str:
    """Return the version of a file that a reply states (ETag, RFC 9110, 8.8.3); "" if it states none."""
    return reply.headers.get("etag", "").strip()
