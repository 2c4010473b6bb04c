"""Small networks, domains and calls that tests of training commands share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from typer.testing import CliRunner

from mkfa.cli.app import app
from mkfa.errors import MkfaError
from mkfa.images.domain_file import make_domain, write_domain

_NETWORK = ("--arch", "convmixer_8_2", "--recipe", "smoke", "--equal-steps", "3", "--set", "batch=8")
SMALL = (*_NETWORK, "--threads", "1", "--device", "cpu")


def pack_small_domain(folder: Path, name: str) -> Path:
    """Write a domain of 36 images of 16 pixels and 3 classes of different brightness."""
    rng = np.random.default_rng(len(name))
    y = np.arange(36, dtype=np.int64) % 3
    x = (rng.integers(0, 160, (36, 16, 16, 1)) + 30 * y[:, None, None, None]).astype(np.uint8)
    made = make_domain(name, ("a", "b", "c"), train=(x[:24], y[:24]), test=(x[24:], y[24:]))
    return write_domain(made, folder / f"{name}.h5", facts={"source": "made"})


class Ended(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def call(*words: object) -> str:
    """Return what a command prints; it must end well."""
    done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*words: object) -> MkfaError:
    """Return the error of a command that cannot be carried out."""
    done = CliRunner().invoke(app, [str(w) for w in words])
    assert isinstance(done.exception, MkfaError), (done.exception, done.output)
    return done.exception


def options(**values: object) -> list[str]:
    """Return options as words of a command line: options(kernel_size="5x5") is ["--kernel-size", "5x5"]."""
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]
