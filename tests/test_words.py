"""A printed count goes with its noun: one function puts them together, and no text does so by hand."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from mkfa.words import counted

ROOT = Path(__file__).parents[1]
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


def test_one_is_singular_however_it_is_stored():
    assert counted(1, "run") == counted(1.0, "run") == "1 run"
    assert counted(-1, "point") == "-1 points"
    assert counted(1234567, "byte") == "1,234,567 bytes"
    assert counted(2, "matrix", "matrices") == "2 matrices"


def test_bare_counts_are_seen():
    assert bare_counts('f"{n} runs, {len(x):,} usable filters"') == ["n runs, ", "len(x) usable filters"]
    assert bare_counts("f\"{x:.1f} points, {MOST} seeds, {n} of {counted(m, 'run')}, {n} other words\"") == []


def test_no_text_prints_a_count_before_a_plural_without_the_function_that_knows_one():
    files = [path for folder in ("cli", "mkfa", "figures") for path in (ROOT / folder).rglob("*.py")]
    assert not {str(path.relative_to(ROOT)): found for path in files if (found := bare_counts(path.read_text("utf-8")))}
