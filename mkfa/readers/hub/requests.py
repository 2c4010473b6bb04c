"""Requests to a hub: with bounded retries, checked replies, and one sentence for every refusal.

Session, token and endpoint are those of `huggingface_hub`. Its retry loop is not used: it waits as long as a server
asks, reads everything that a server sends, and writes to the user's screen.
"""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from mkfa.errors import MkfaError, SourceError, WorkError, one_line
from mkfa.frozen import FrozenDict
from mkfa.words import counted

RETRIES = 3
FIRST_WAIT = 0.5
"""Seconds before the first retry; doubled for each further one."""
LONGEST_WAIT = 30.0
"""Longest Retry-After that is obeyed, seconds; if a server asks for more, the request fails."""
SLOWEST = 20_000
"""Bytes a second below which a reply counts as stalled."""

LOG_IN = "set HF_TOKEN or run 'hf auth login' ('huggingface-cli login' in older versions)"
REDIRECTS = 5
"""Redirects followed in a row."""
_PASSING = frozenset([408, 429, 500, 502, 503, 504])


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers (lower-case names) and body of a reply; the body of a refusal is not read.

    `url` is the address that answered, after redirects; `commit` is what the hub called the file's commit on the way.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    url: str = ""
    commit: str = ""

    @property
    def redirects(self) -> bool:
        return self.status in (301, 302, 303, 307, 308)


class RangeIgnoredError(Exception):
    """The server ignores ranges and sends the whole file."""


class _FaultyReplyError(Exception):
    """A reply that does not match the request; the text says how."""


def endpoint() -> str:
    """Return the hub's address without a slash at the end (`HF_ENDPOINT`)."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT).rstrip("/")


def own_headers() -> dict[str, str]:
    """Return the headers for the hub itself, with the user's token, which must not go to another server."""
    from huggingface_hub import get_token

    token = get_token()
    return {**plain_headers(), **({"authorization": f"Bearer {token}"} if token else {})}


def plain_headers() -> dict[str, str]:
    """Return the headers for other servers: without token and compression."""
    from mkfa.version import VERSION

    return {"user-agent": f"mkfa/{VERSION}", "accept-encoding": "identity"}


def head(url: str, thing: str, *, retries: int | None = None) -> Reply:
    """Request a file's headers without following a redirect; raises WorkError if the hub cannot be reached.

    `retries` is the number of further attempts, `RETRIES` if None.
    """
    return _retried("HEAD", url, own_headers(), thing=thing, follow=False, retries=retries)


def get_small(url: str, thing: str, *, limit: int) -> Reply:
    """Get at most `limit` bytes of a file of the hub; raises as `head`."""
    return _retried("GET", url, own_headers(), thing=thing, follow=True, limit=limit)


def get_range(
    url: str,
    headers: Mapping[str, str],
    span: tuple[int, int],
    *,
    size: int,
    thing: str,
    stop: threading.Event | None = None,
) -> Reply:
    """Get bytes [first, last) of a file of `size` bytes; a reply of status 206 contains exactly these.

    No further attempt is made once `stop` is set (another range failed, or the user interrupted).

    Raises RangeIgnoredError: the server answers with the whole file. Raises WorkError: every attempt failed: the server
    cannot be reached, or sends errors or wrong replies.
    """
    asked = {**headers, "range": f"bytes={span[0]}-{span[1] - 1}"}
    return _retried("GET", url, asked, thing=thing, follow=True, span=(*span, size), stop=stop)


def redirect_target(url: str, reply: Reply, thing: str) -> str:
    """Return the web address that a redirect leads to. Raises WorkError if it is none (http or https)."""
    location = reply.headers.get("location", "")
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # brackets or a port that are not well formed
        valid = False
    if not valid:
        problem = f"is redirected by the hub to '{one_line(location)[:100]}', which is not a web address"
        raise WorkError(thing, problem, "check HF_ENDPOINT, or try again later")
    return target


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a web address: what a token may be sent to."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def refusal(reply: Reply, repo: str, *, file: str = "", revision: str = "") -> MkfaError:
    """Return the error for a reply whose status is not a success.

    huggingface_hub's metadata call, which raises errors of its own, is not used, because the ETag and the origin are
    checked at every redirect (`mkfa.readers.hub.ranges.pin`) and the number of retries is bounded.
    """
    code = reply.headers.get("x-error-code", "")
    page = f"{endpoint()}/{repo}"
    if code == "GatedRepo" or (code == "" and reply.status == 403):
        return SourceError(
            repo,
            f"is gated or not open to you (the hub answered {reply.status})",
            f"accept its licence on {page}, then {LOG_IN}",
        )
    if "Invalid credentials" in reply.headers.get("x-error-message", ""):
        return SourceError(repo, "could not be requested, since the hub refuses your token", f"for a new one {LOG_IN}")
    if code == "RevisionNotFound":
        return SourceError(repo, f"has no revision {revision or 'main'}", f"see its branches and tags on {page}")
    if code == "EntryNotFound":
        return SourceError(repo, f"has no file {file}", f"see its files on {page}/tree/main")
    if reply.status in (401, 404):
        problem = f"is not a repository of the hub, or is private (the hub answered {reply.status})"
        return SourceError(repo, problem, f"check the name; for a private one {LOG_IN}")
    return SourceError(repo, f"was refused by the hub ({reply.status})", f"see {page}")


def _retried(
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    thing: str,
    follow: bool,
    limit: int = 0,
    span: tuple[int, int, int] | None = None,
    stop: threading.Event | None = None,
    retries: int | None = None,
) -> Reply:
    errors, problem, asked = _transport_errors(), "", 0.0
    stop = stop or threading.Event()
    attempts = (RETRIES if retries is None else retries) + 1
    for attempt in range(attempts):
        if attempt and stop.wait(max(FIRST_WAIT * 2 ** (attempt - 1), asked)):
            break
        asked = 0.0
        try:
            reply = _followed(method, url, headers, thing=thing, follow=follow, limit=limit, span=span)
        except _FaultyReplyError as error:
            problem = str(error)
            continue
        except errors as error:
            problem = _transport_problem(error)
            continue
        if reply.status not in _PASSING:
            return reply
        problem = "the hub asks to slow down (429)" if reply.status == 429 else f"the hub fails ({reply.status})"
        asked = _retry_after(reply.headers)
        if asked > LONGEST_WAIT:
            raise WorkError(thing, f"{problem} and to wait {asked:.0f} s", "try again later")
    raise WorkError(thing, f"{problem}, {counted(attempts, 'time')} in a row", _remedy(problem))


def _remedy(problem: str) -> str:
    if "reached" in problem or "closed" in problem or "silent" in problem:
        return "check the network connection and HF_ENDPOINT, or try again later"
    return "try again later, or fetch the file by other means and harvest that"


def _followed(
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    thing: str,
    follow: bool,
    limit: int,
    span: tuple[int, int, int] | None,
) -> Reply:
    """Send a request and follow its redirects, if wanted; the token goes to the first address's origin only."""
    sent, commit = dict(headers), ""
    for _ in range(REDIRECTS + 1):
        reply = _request(method, url, sent, limit=limit, span=span)
        commit = commit or reply.headers.get("x-repo-commit", "")
        if not (follow and reply.redirects):
            return replace(reply, url=url, commit=commit)
        target = redirect_target(url, reply, thing)
        if origin(target) != origin(url):
            sent.pop("authorization", None)
        url = target
    raise WorkError(thing, f"is redirected by the hub more than {REDIRECTS} times", "check HF_ENDPOINT")


def _request(
    method: str, url: str, headers: Mapping[str, str], *, limit: int, span: tuple[int, int, int] | None
) -> Reply:
    """Send one request; read only as much of the body as wanted, and only as long as `SLOWEST` allows."""
    from huggingface_hub import constants, get_session

    timeout = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
    with get_session().stream(method, url, headers=dict(headers), timeout=timeout, follow_redirects=False) as response:
        lowered = FrozenDict({str(k).lower(): str(v) for k, v in response.headers.items()})
        status = int(response.status_code)
        if method == "HEAD" or status not in (200, 206):
            return Reply(status, lowered)
        if span is None:
            return Reply(status, lowered, _body(response, limit, timeout, exact=False))
        start, stop, size = span
        if status == 200:
            raise RangeIgnoredError
        received = " ".join(lowered.get("content-range", "").split())
        if received != f"bytes {start}-{stop - 1}/{size}":
            problem = f"the hub answered with '{received}' instead of bytes {start}-{stop - 1}/{size}"
            raise _FaultyReplyError(one_line(problem))
        return Reply(status, lowered, _body(response, stop - start, timeout, exact=True))


def _body(response: Any, limit: int, timeout: float, *, exact: bool) -> bytes:
    deadline = time.monotonic() + timeout + limit / SLOWEST
    parts, count = [], 0
    for part in response.iter_bytes():
        parts.append(part)
        count += len(part)
        if count > limit:
            raise _FaultyReplyError(f"the hub sent more than the {counted(limit, 'byte')} expected")
        if time.monotonic() > deadline:
            raise _FaultyReplyError("the hub fell silent while sending")
    if exact and count != limit:
        raise _FaultyReplyError(f"the hub sent {count:,} of {counted(limit, 'byte')}")
    return b"".join(parts)


def _transport_errors() -> tuple[type[Exception], ...]:
    """Return the network errors of the HTTP library that huggingface_hub uses."""
    try:
        import httpx2 as httpx
    except ImportError:
        import httpx  # type: ignore[no-redef,import-not-found,unused-ignore]

    return (httpx.HTTPError, httpx.InvalidURL)


def _transport_problem(error: Exception) -> str:
    name = type(error).__name__
    if "Timeout" in name:
        return "the hub fell silent" if name == "ReadTimeout" else f"the hub could not be reached ({name})"
    if name in ("UnsupportedProtocol", "InvalidURL"):
        return f"the hub could not be reached, since HF_ENDPOINT ({endpoint()}) is not a web address"
    if name == "ConnectError":
        return f"the hub at {endpoint()} could not be reached ({one_line(str(error))[:100]})"
    return f"the connection to the hub was closed ({one_line(str(error))[:100] or name})"


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that a server asks to wait, as a number or as a date (RFC 9110, 10.2.3), else 0."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
        if until.tzinfo is None:
            until = until.replace(tzinfo=dt.UTC)
        return max(0.0, (until - dt.datetime.now(dt.UTC)).total_seconds())
    except (ValueError, OverflowError):
        pass
    reset = re.search(r";\s*r=0;\s*t=(\d{1,9})", headers.get("ratelimit", ""))  # "api";r=0;t=55
    return float(reset[1]) if reset else 0.0
