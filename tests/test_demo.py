"""`sarigan demo`, cut short: the real images, the real training, the real pictures."""

import os
import re
import subprocess
import sys

import limits
import numpy as np
import PIL.Image
import pytest

from sarigan_plugin import data

def demo(*arguments):
    return subprocess.run([sys.executable, '-m', 'sarigan_plugin.cli', 'demo', *arguments], capture_output=True, text=True, check=False, timeout=limits.HANG,
        env=dict(os.environ, OMP_NUM_THREADS='1'))

@pytest.fixture(scope='module', autouse=True)
def images_at_hand():
    try:
        data.fetch(data.PUNKS)
    except data.UserError as error:
        pytest.skip(str(error))

def test_demo_leaves_pictures_and_pickle_and_a_second_one_goes_on_from_the_first(tmp_path):
    outdir = tmp_path / 'demo'
    first = demo(f'--outdir={outdir}', '--minutes=0.05', '--device=cpu')
    assert first.returncode == 0, first.stderr
    for name in ['fakes.png', 'groups.png', 'strip.png']:
        assert np.asarray(PIL.Image.open(outdir / name)).std() > 5, name
    assert {'network.pkl', 'log.txt', 'punks.zip', 'runs'} <= set(os.listdir(outdir))
    assert 'Look at these' in first.stdout and 'sarigan demo' in first.stdout

    second = demo(f'--outdir={outdir}', '--minutes=0.05', '--device=cpu')
    assert second.returncode == 0, second.stderr
    assert re.search(r'Going on from .*00000-.*training-state-.*\.pt', second.stdout)
    assert len(os.listdir(outdir / 'runs')) == 1

@pytest.mark.parametrize('arguments, sentence', [
    (['--minutes=0'], "Invalid value for '--minutes': 0.0 is not in the range x>0"),
    (['--minutes=soon'], "Invalid value for '--minutes': 'soon' is not a valid float"),
    (['--outdir=/dev/null/demo'], '--outdir: /dev/null/demo cannot be written to: Not a directory.'),
])
def test_demo_names_the_option_that_is_wrong(arguments, sentence):
    done = demo(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr and 'Traceback' not in done.stderr
