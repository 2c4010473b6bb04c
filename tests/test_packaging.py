"""One installed top-level name; every folder with code is listed; data files match the globs."""

from __future__ import annotations

import fnmatch
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_folder_with_code_is_a_listed_package():
    folders = {
        p.parent.relative_to(ROOT).as_posix()
        for top in ("mkfa", "cli", "figures", "data")
        for p in (ROOT / top).rglob("__init__.py")
    }
    assert set(SETUP["package-dir"].values()) == folders
    assert set(SETUP["packages"]) == set(SETUP["package-dir"])


def test_mapped_folders_are_not_in_the_package_itself():
    assert not [name for name in ("cli", "figures", "data") if (ROOT / "mkfa" / name).exists()]


def test_every_data_file_is_packaged():
    globs = SETUP["package-data"]["mkfa.data"]
    names = [p.name for p in (ROOT / "data").iterdir() if p.is_file() and p.suffix != ".py"]
    assert names
    assert [n for n in names if not any(fnmatch.fnmatch(n, g) for g in globs)] == []


def test_the_notice_says_whose_every_data_file_is():
    said = (ROOT / "data" / "NOTICE.txt").read_text("utf-8")
    names = {p.name for p in (ROOT / "data").iterdir() if p.is_file() and p.suffix != ".py"} - {"NOTICE.txt"}
    assert {n for n in names if n not in said} == set()


def test_top_level_is_what_the_readme_says():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:  # an unpacked source archive has no history to ask
        names = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")}
    else:
        names = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    wanted = {"pyproject.toml", "README.md", "LICENSE", "mkfa", "cli", "tests", "figures", "data"}
    assert wanted <= names
    assert {n for n in names - wanted if not n.startswith(".") and not n.endswith(".egg-info")} == set()


@pytest.mark.slow
def test_the_wheel_holds_one_top_level_name_and_runs_elsewhere(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    copy = tmp_path / "copy"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
    subprocess.run([*build, str(copy)], check=True)
    wheel = next(tmp_path.glob("*.whl"))
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as z:
        tops = {name.split("/")[0] for name in z.namelist()}
        z.extractall(site)
    assert {t for t in tops if not t.endswith(".dist-info")} == {"mkfa"}
    assert (site / "mkfa/py.typed").is_file()
    assert (site / "mkfa/data/index.json").is_file()
    assert (site / "mkfa/storage/result_schema.json").is_file()
    assert {p.suffix for p in (site / "mkfa/report/page").iterdir()} == {".html", ".css", ".js"}
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import mkfa.cli.app as a; print(a.__file__); a.main()"
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import site; site.main(); " + code, "banks"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stdout.splitlines()[0]
    assert "efficientnet_lite0" in done.stdout
