"""examples/quickstart.ipynb runs from top to bottom, in a folder of its own, with a training of one step."""

import json

import nbclient
import nbformat
import pytest

import limits
import trees
from sarigan_plugin.datasets import drawn

NOTEBOOK = trees.ROOT / 'examples' / 'quickstart.ipynb'

def test_outputs_are_cleared_and_cells_say_what_changes_on_colab():
    cells = json.loads(NOTEBOOK.read_text())['cells']
    code = [cell for cell in cells if cell['cell_type'] == 'code']
    assert code and all(cell['outputs'] == [] and cell['execution_count'] is None for cell in code)
    assert sum('**On Colab' in ''.join(cell['source']) or '**on Colab' in ''.join(cell['source'])
        for cell in cells) >= 3

@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.setenv('SARIGAN_MINUTES', '0.0001') # One step.
    drawn.make_drawn(tmp_path / 'out' / 'quickstart' / 'drawn.zip', num=64) # Fewer than the notebook would.
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=limits.HANG, kernel_name='python3',
        resources=dict(metadata=dict(path=str(tmp_path)))).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == 'code' for output in cell.outputs
        if 'image/png' in output.get('data', {})]
    assert len(shown) == 6
