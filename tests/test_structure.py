"""The arrows between modules point one way, heavy libraries stay out of start-up, files stay small, and counts that are
printed go with their nouns."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = {"mkfa": "mkfa", "cli": "mkfa.cli", "figures": "mkfa.figures"}
HEAVY = {
    "torch",
    "timm",
    "torchvision",
    "sklearn",
    "umap",
    "matplotlib",
    "onnx",
    "tflite",
    "huggingface_hub",
    "scipy",
    "h5py",
    "safetensors",
    "ot",
    "pandas",
}


def module_files() -> dict[str, Path]:
    found = {}
    for folder, package in TOPS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join((package, *(p for p in parts if p != "__init__")))
            found[name] = path
    return found


MODULES = module_files()


def run_on_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported: also those in `if`, `try`, `with` and classes."""
    for node in body:
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        parts = ("orelse",) if guarded else ("body", "orelse", "finalbody", "handlers")
        for inner in (x for part in parts for x in getattr(node, part, [])):
            yield from run_on_import(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def imports(path: Path, *, top_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in run_on_import(tree.body) if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_no_cycles():
    graph = {name: {i for i in imports(path) if i in MODULES and i != name} for name, path in MODULES.items()}
    graph = {name: used for name, used in graph.items() if MODULES[name].name != "__init__.py"}  # they re-export
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert state.get(name) != 1, f"cycle: {' -> '.join((*trail, name))}"
        if name in state:
            return
        state[name] = 1
        for other in sorted(graph.get(name, ())):
            visit(other, (*trail, name))
        state[name] = 2

    for name in graph:
        visit(name, ())


def test_every_floor_imports_from_the_floors_below_it_alone():
    """The contracts in pyproject.toml: the order of the packages, of the readers, and who opens HDF5."""
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_imports_are_seen_wherever_they_run(tmp_path):
    lines = [
        "import a",
        "if x:",
        "    import b",
        "else:",
        "    import c",
        "try:",
        "    import d",
        "except E:",
        "    import e",
        "finally:",
        "    import f",
        "with w:",
        "    import g",
        "class C:",
        "    import h",
        "if TYPE_CHECKING:",
        "    import no1",
        "def f():",
        "    import no2",
    ]
    (tmp_path / "m.py").write_text("\n".join(lines))
    assert imports(tmp_path / "m.py", top_only=True) == set("abcdefgh")


def test_the_library_knows_neither_figures_nor_commands_and_nothing_knows_commands():
    for name, path in MODULES.items():
        used = imports(path)
        if not name.startswith("mkfa.cli") and name != "mkfa.__main__":  # `python -m mkfa` is the command
            assert not [i for i in used if i.startswith("mkfa.cli")], name
        if not name.startswith(("mkfa.cli", "mkfa.figures")):
            assert not [i for i in used if i.startswith("mkfa.figures")], name
        assert not [i for i in used if i.split(".")[0] in ("cli", "figures", "data")], name


@pytest.mark.parametrize("name", MODULES)
def test_heavy_libraries_are_imported_inside_functions(name):
    assert not {i.split(".")[0] for i in imports(MODULES[name], top_only=True)} & HEAVY


def test_torch_load_is_never_called_without_weights_only():
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "torch.load",
                "pickle.load",
                "pickle.loads",
                "torch.jit.load",
            ):
                assert ast.unparse(node.func) == "torch.load", name
                assert {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only") == "True", name


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["harvest", "--help"], ["compare", "--help"]])
def test_the_command_line_starts_without_heavy_libraries(command):
    code = (
        "import sys\nfrom mkfa.cli.app import main\nsys.argv = ['mkfa', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"loaded = sorted({HEAVY | {'numpy', 'IPython'}!r} & set(sys.modules))\nassert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_mkfa_is_light():
    code = f"import mkfa, sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_small_and_says_what_it_does(name):
    text = MODULES[name].read_text()
    assert len(text.splitlines()) <= 600
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("name", [n for n in MODULES if not n.startswith("mkfa.cli")])
def test_public_functions_are_documented_and_take_at_most_three_positional_arguments(name):
    module = importlib.import_module(name)
    for label, item in vars(module).items():
        if label.startswith("_") or getattr(item, "__module__", "") != name:
            continue
        if inspect.isfunction(item):
            kinds = [p.kind for p in inspect.signature(item).parameters.values()]
            assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) <= 3, label
            assert item.__doc__, f"{name}.{label} has no docstring"
        elif inspect.isclass(item):
            assert item.__doc__, f"{name}.{label} has no docstring"


def hasty_asserts(source: str) -> list[int]:
    """Return the lines of asserts that something took less than ten seconds: a busy machine takes longer."""
    clocks = {"monotonic", "perf_counter", "process_time", "time"}
    names = {"seconds", "elapsed", "took", "duration", "wall"}
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assert) or not isinstance(test := node.test, ast.Compare):
            continue
        bound = test.comparators[-1]
        parts = list(ast.walk(test.left))
        calls = [p.func for p in parts if isinstance(p, ast.Call)]
        timed = any(isinstance(call, ast.Attribute) and call.attr in clocks for call in calls)
        timed = timed or any(isinstance(p, ast.Name) and p.id in names for p in parts)
        below = isinstance(test.ops[-1], ast.Lt | ast.LtE) and isinstance(bound, ast.Constant)
        if timed and below and isinstance(bound.value, int | float) and bound.value < 10:
            found.append(node.lineno)
    return found


def test_no_test_fails_because_the_machine_is_busy():
    hasty = "import time\nstart = time.monotonic()\nassert time.monotonic() - start < 0.5\nassert elapsed <= 2\n"
    assert hasty_asserts(hasty) == [3, 4]
    assert hasty_asserts("assert time.monotonic() < until\nassert seconds < 80\nassert len(found) < 2\n") == []
    tests = Path(__file__).parent
    files = [path for path in tests.rglob("*.py") if "benchmarks" not in path.parts]
    assert not [(path.name, lines) for path in files if (lines := hasty_asserts(path.read_text("utf-8")))]


NOUNS = (
    "runs layers seeds filters images draws banks depths domains networks classes points steps files measures pairs "
    "channels bytes values numbers tensors axes inputs groups keys clusters settings targets cells claims tests "
    "permutations nodes cores epochs devices shards weights biases labels nulls libraries patterns patches splits "
    "seconds times sources rows entries processes threads folders kernels pixels"
)
BARE = re.compile(rf"^ (?:(?!of |in |with |without |at )[a-z]+ )?(?:{'|'.join(NOUNS.split())})\b")
WORDS = set(  # fields that hold words, sizes such as 5x5 or ranges, not counts
    "kh kw kind.kind data.pool.kind what setting.what self.what paper.what p['what'] size sizes many wide width "
    "self.size domain.size size[1] tw th chosen.null strict.null self.null data.null lacking[0] verdict.copy kind "
    "values.dtype sorted(steps) list(shape.shape) list(values.shape) key use keep by_shape file.value.name[:80] points "
    "self.how.device how.device recipe.name name signed(100*trend.slope) _points(trend.slope) null "
    "network.steps".split()  # and the steps of a bundled network, in thousands
)


def bare_counts(source: str) -> list[str]:
    """Return the fields of f-strings that stand before a plural noun, but for decimals, constants and `WORDS`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for field, text in zip(node.values, node.values[1:], strict=False):
            if not isinstance(field, ast.FormattedValue) or not isinstance(text, ast.Constant):
                continue
            name = ast.unparse(field.value).replace(" ", "")
            decimals = field.format_spec is not None and re.search(r"[.g>]", ast.unparse(field.format_spec))
            if (
                BARE.match(str(text.value))
                and not decimals
                and name not in WORDS
                and not name.isupper()
                and not name.startswith("counted(")
            ):
                found.append(f"{name}{text.value}"[:60])
    return found


def test_bare_counts_are_seen():
    assert bare_counts('f"{n} runs, {len(x):,} usable filters"') == ["n runs, ", "len(x) usable filters"]
    assert bare_counts("f\"{x:.1f} points, {MOST} seeds, {n} of {counted(m, 'run')}, {n} other words\"") == []


def test_no_text_prints_a_count_before_a_plural_without_the_function_that_knows_one():
    files = [path for folder in ("cli", "mkfa", "figures") for path in (ROOT / folder).rglob("*.py")]
    assert not {str(path.relative_to(ROOT)): found for path in files if (found := bare_counts(path.read_text("utf-8")))}
