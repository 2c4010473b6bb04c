"""Join the page: one HTML file with its style, script, facts and bytes, that may load nothing from anywhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from mkfa.report.filters import Blobs

SCRIPTS = (
    *("elements.js", "data.js", "colours.js", "thumbnails.js", "nearest.js", "details.js", "filters.js"),
    *("map_view.js", "map.js", "charts.js", "comparisons.js", "patterns.js", "sweeps.js", "verdicts.js"),
    *("networks.js", "keys.js", "grafts.js"),
    *("provenance.js", "start.js"),
)
"""The page's scripts, each of one subject, in the order in which they are joined."""


def build_page(facts: Mapping[str, Any], blobs: Blobs) -> bytes:
    """Return the page as bytes of UTF-8.

    Every text of a stranger's file is in the facts, which are compressed and in base64, so that it cannot end a
    script; the scripts put it into the page as text, never as HTML. The content security policy allows the page's own
    script and style, by their hashes, and nothing from a network.

    Parameters
    ----------
    facts : JSON; its title and summary are shown before the script has run, and without it.
    blobs : bytes by name.
    """
    style, script = _file("page.css"), "\n".join(_file(name) for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}\n}})();\n'
    text = json.dumps(facts, separators=(",", ":"), allow_nan=False).encode()
    data = "\n".join(_element(name, content) for name, content in {"facts": text, **blobs}.items())
    parts = {
        "POLICY": _policy(script, style),
        "TITLE": html.escape(facts["title"]),
        "SUMMARY": html.escape(facts["summary"]),
        "STYLE": style,
        "SCRIPT": script,
        "DATA": data,
    }
    pieces = _file("page.html").split("@@")  # text, name, text, name, ...: no part is searched for names
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces)).encode("utf-8")


def encode_blob(content: bytes) -> str:
    """Return bytes compressed by gzip, in base64; the same bytes give the same text."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")


def _element(name: str, content: bytes) -> str:
    return f'<script type="text/plain" id="data-{html.escape(name)}">{encode_blob(content)}</script>'


def _policy(script: str, style: str) -> str:
    """Return the policy: nothing may be loaded but what stands in the page; pictures may be made by the script."""

    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; script-src {digest(script)}; style-src {digest(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _file(name: str) -> str:
    return files("mkfa.report").joinpath("page", name).read_text("utf-8")
