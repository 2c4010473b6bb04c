"""`mkfa doctor`: what works on this machine, and what does not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from mkfa.cli.shared.options import Json, option
from mkfa.cli.shared.printing import print_list, print_table, say
from mkfa.words import counted

EXTRAS = {"onnx": "harvest .onnx files", "tflite": "harvest .tflite files", "tensorboard": "train --tensorboard"}
EXTRAS |= {"pandas": "to_frame() in Python", "ray": "train --engine ray"}
SPACE = 1 << 30
"""Bytes that should be free on the home folder's disk."""


def doctor(
    device: Annotated[
        str | None,
        option(
            "--device",
            "NAME",
            "Also try every path of training on a device, five steps each, within a minute: auto, cpu, cuda, mps.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check this installation: versions, devices, home folder, locks, space; with --device, what a device does."""
    checks = [*_versions(), *_devices(), *_home()]
    if device is not None:
        from mkfa.engines.device_checks import check_device

        checks += [asdict(check) for check in check_device(device)]
    good = all(check["state"] != "fails" for check in checks)
    if as_json:
        print_list("doctor", "checks", checks, good=good)
    else:
        print_table("mkfa doctor", ("check", "state", "found"), [list(check.values()) for check in checks], left=3)
        say("All that is needed works." if good else "Something that is needed does not work; see 'fails' above.")
    if not good:
        raise typer.Exit(1)


def _check(name: str, state: str, found: object) -> dict[str, Any]:
    return {"check": name, "state": state, "found": str(found)}


def _versions() -> list[dict[str, Any]]:
    import platform
    import re
    from importlib.metadata import PackageNotFoundError, requires, version

    from mkfa.version import VERSION

    checks = [_check("mkfa", "works", VERSION), _check("Python", "works", platform.python_version())]
    needed = [re.split(r"[^\w-]", text)[0] for text in requires("mkfa") or () if "extra ==" not in text]
    for name in (*needed, *EXTRAS):
        try:
            checks.append(_check(name, "works", version(name)))
        except PackageNotFoundError:
            missing = f"not installed; needed to {EXTRAS[name]}" if name in EXTRAS else "not installed"
            checks.append(_check(name, "optional" if name in EXTRAS else "fails", missing))
    return checks


def _devices() -> list[dict[str, Any]]:
    from mkfa.threads import cores

    try:
        import torch

        found = [
            f"cpu ({counted(cores(), 'core')})",
            *(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
        ]
        found += ["mps"] if torch.backends.mps.is_available() else []
    except Exception as error:  # a broken installation raises anything
        return [_check("devices", "fails", f"torch cannot be loaded ({type(error).__name__}: {error})")]
    return [_check("devices", "works", ", ".join(found))]


def _home() -> list[dict[str, Any]]:
    import secrets
    import shutil

    from mkfa.errors import MkfaError
    from mkfa.storage.folders import home
    from mkfa.storage.locks import hold, lacks_locks

    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".doctor-{secrets.token_hex(4)}"
        probe.write_text("")
    except OSError as error:
        return [_check("home folder", "fails", f"{folder} cannot be written ({error.strerror}); set MKFA_HOME")]
    checks = [_check("home folder", "works", f"{folder}, writable")]
    try:
        with hold(probe):
            how = "by leases, since this file system has none" if lacks_locks(probe) else "on this file system"
            checks.append(_check("locks", "works", how))
    except (MkfaError, OSError) as error:
        checks.append(_check("locks", "fails", f"{error}; set MKFA_HOME to a local disk"))
    finally:
        probe.unlink(missing_ok=True)
    free = shutil.disk_usage(folder).free
    checks.append(_check("free space", "works" if free > SPACE else "fails", f"{free / 1e9:.1f} GB"))
    return checks
