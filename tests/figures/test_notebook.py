"""The notebook of the first ten minutes runs from its first cell to its last."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "figures" / "first_ten_minutes.ipynb"


def test_every_code_cell_runs_in_order(tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MKFA_HOME", str(tmp_path / "home"))
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    assert notebook["nbformat"] == 4
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert len(json.dumps(cell["outputs"])) < 4096
            code = compile("".join(cell["source"]), f"{NOTEBOOK.name}, {cell['id']}", "exec")
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)
                exec(code, names)
    plt.close("all")
    assert (tmp_path / "bank.h5").is_file()
    assert (tmp_path / "curves.png").is_file()
