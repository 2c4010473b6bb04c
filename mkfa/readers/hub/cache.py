"""Whole files of a hub: those in the user's cache, and downloads into it."""

from __future__ import annotations

import errno
import re
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from mkfa.errors import MkfaError, SourceError, WorkError, one_line
from mkfa.readers.hub import requests as hub_http
from mkfa.words import counted


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """A file of a hub repository on this machine; `commit` and `sha256` are "" if the cache does not record them."""

    path: Path
    commit: str
    sha256: str


def cached(repo: str, file: str, revision: str = "") -> LocalCopy | None:
    """Return the file from the user's cache, without any request; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(repo, file, revision=revision or None)
    except HFValidationError:
        raise bad_name(repo) from None
    return _copy(Path(path)) if isinstance(path, str) else None


def snapshot(repo: str, revision: str = "") -> dict[str, LocalCopy]:
    """Return the files of a revision in the user's cache by name, without any request."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    try:
        ref = folder / "refs" / (revision or "main")
        commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
        if re.fullmatch(r"[0-9a-f]{40}", commit):
            return {path.name: _copy(path) for path in sorted((folder / "snapshots" / commit).iterdir())}
    except (OSError, ValueError):
        pass
    return {}


def bad_name(repo: str) -> MkfaError:
    """Return the error for a malformed repository name."""
    return SourceError(repo, "is not a valid name of a hub repository", "write hf-hub:OWNER/NAME")


def offline() -> bool:
    """True if the user forbids requests (`HF_HUB_OFFLINE`)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def download(repo: str, file: str, revision: str) -> LocalCopy:
    """Fetch a whole file into the user's cache, resuming a broken download.

    Raises WorkError: the network, the hub or the disk failed. Raises SourceError: the hub refuses the file.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    thing, wait, problem = f"{repo}/{file}", hub_http.FIRST_WAIT, ""
    shows = sys.stderr.isatty() and thing.isprintable()  # the bar has the file's name
    quiet = not shows and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        for attempt in range(hub_http.RETRIES + 1):
            if attempt:
                time.sleep(wait)
                wait *= 2
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # the disk may be too small: the download then fails anyway
                    return _copy(Path(hf_hub_download(repo, file, revision=revision or None)))
            except Exception as error:  # several libraries raise errors of many kinds
                problem = _passing_problem(error, repo, thing, revision)
    finally:
        if quiet:
            enable_progress_bars()
    raise WorkError(thing, f"{problem}, {counted(hub_http.RETRIES + 1, 'time')} in a row", "try again later")


def _passing_problem(error: Exception, repo: str, thing: str, revision: str) -> str:
    """Return the problem if another attempt may help, else raise the error for the user."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space or set HF_HOME to a folder on another disk"
        raise WorkError(thing, "could not be downloaded, since the disk is full", remedy) from error
    response = getattr(error, "response", None)
    status = int(getattr(response, "status_code", 0) or 0)
    if response is not None and 400 <= status < 500 and status not in (408, 429):
        headers = {str(k).lower(): str(v) for k, v in response.headers.items()}
        raise hub_http.refusal(hub_http.Reply(status, headers), repo, file=thing, revision=revision) from error
    if isinstance(error, OSError) and error.errno is not None:
        problem = f"could not be written to the cache ({error.strerror})"
        raise WorkError(thing, problem, "check the folder that HF_HOME names") from error
    return f"could not be downloaded ({one_line(str(error))[:120] or type(error).__name__})"


def _copy(path: Path) -> LocalCopy:
    """Take commit and digest from the cache's layout: snapshots/<commit>/<file>, a link to blobs/<sha256>."""
    commit = path.parent.name if path.parent.parent.name == "snapshots" else ""
    blob = path.resolve().name
    return LocalCopy(path, commit, blob if re.fullmatch(r"[0-9a-f]{64}", blob) else "")
