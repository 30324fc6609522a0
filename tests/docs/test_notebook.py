"""The notebook runs as it stands, shows what it says, and holds no outputs."""

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs/notebook.ipynb"


def test_it_holds_no_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert NOTEBOOK.read_text(encoding="utf-8") == nbformat.writes(notebook, indent=1) + "\n"


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's own packages
def test_it_runs_as_it_stands(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=540, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"], "a warning"
    shown = [output["data"] for output in outputs if "data" in output]
    assert sum("image/png" in data for data in shown) == 2
    assert any("<th>clipping</th><td>present</td>" in data.get("text/html", "") for data in shown)
    text = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    scores = {
        name: float(text.split(f"{name}: ")[1].split()[0])
        for name in ("   learned", "tuned momentum", "before", "after")
    }
    assert scores["   learned"] < scores["tuned momentum"]
    assert scores["after"] < 0.1 * scores["before"]
    assert not list(tmp_path.iterdir())
