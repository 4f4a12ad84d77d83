"""The notebook runs from top to bottom, with a training of a thousand images."""

import os
import re

import nbclient
import nbformat
import pytest

import limits
import trees

NOTEBOOK = trees.ROOT / 'examples' / 'quickstart.ipynb'

def test_outputs_are_cleared():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get('outputs') or cell.get('execution_count') for cell in notebook.cells)

def test_links_lead_to_files():
    text = NOTEBOOK.read_text()
    links = re.findall(r'\]\((?!http)([^)]+)\)', text)
    assert links and all((NOTEBOOK.parent / link).is_file() for link in links)

@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """The notebook after a run, with the folder that it wrote into."""
    out = tmp_path_factory.mktemp('quickstart')
    environment = dict(os.environ, QUICKSTART_OUT=str(out), QUICKSTART_KIMG='1', OMP_NUM_THREADS='1')
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=limits.HANG, kernel_name='python3',
        resources=dict(metadata=dict(path=str(trees.ROOT))))
    client.execute(env=environment)
    return notebook, out

def test_every_cell_runs_and_most_show_a_picture(finished):
    notebook, out = finished
    shown = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    assert sum('image/png' in output.get('data', {}) for output in shown) == 5
    assert not any(output.output_type == 'error' for output in shown)
    assert len(list(out.glob('runs/*/network-snapshot-*.pkl'))) >= 1
