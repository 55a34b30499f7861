"""Every notebook runs from its first cell to its last in a fresh checkout, and is kept without what it printed."""

import re
from pathlib import Path

import pytest

from .documents import Checkout

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FEWER = {"EPOCHS": "1"}

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")


def test_there_is_one() -> None:
    assert [path.name for path in NOTEBOOKS] == ["from_zero_to_the_tail.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")] == []
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    for name, value in FEWER.items():
        parameters.source, count = re.subn(rf"(?m)^{name} = \w+", f"{name} = {value}", parameters.source)
        assert count == 1

    checkout = Checkout.of(ROOT, tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / ".git" / "ipython"))  # nothing of the user's, and no trace
    resources = {"metadata": {"path": str(tmp_path / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3", resources=resources).execute()

    cells = {cell.id: cell for cell in notebook.cells}
    for name in ("images", "many-medium-few", "class-by-class"):
        assert [one for one in cells[name].outputs if "image/png" in one.get("data", {})], f"{name} shows no picture"
    (shown,) = cells["table"].outputs
    assert shown.data["text/plain"].split()[:5] == ["classes", "many", "medium", "few", "all"]
    assert "balanced-softmax" in cells["difference"].outputs[0].text
    assert len(list(tmp_path.glob("runs/notebook/*/result.json"))) == 2
    assert checkout.traces() == []
