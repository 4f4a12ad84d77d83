"""Whatever is typed, written into a TOML file or packed into a data set: an answer or one sentence,
and nothing is touched.

Three hundred cases each; all five thousand with `-m slow`.
"""

import io
import json
import os
import tempfile
import zipfile
from pathlib import Path

import PIL.Image
import pytest
from click.testing import CliRunner
from hypothesis import given, strategies as st

from fuzzing import NUMBERS, TEXTS, VALUES, fuzz
from sarigan_plugin.commands.train import main

CASES = [50, pytest.param(1700, marks=pytest.mark.slow)] # Of each of three kinds.

PAIRS = st.lists(st.tuples(st.sampled_from(['8', '16', '32', 'b8.conv0', 'b16.conv1', 'b99', '']), st.integers(-1, 70)),
    max_size=4).map(
    lambda pairs: ','.join(f'{place}:{number}' for place, number in pairs))
OPTIONS = ['gpus', 'device', 'snap', 'grid', 'metrics', 'seed', 'cond', 'subset', 'mirror', 'cfg', 'gamma', 'kimg',
    'batch', 'num-groups', 'grouping', 'inertia',
    'norm-eps', 'lambda-group', 'lambda-info', 'checkpoint-minutes', 'keep-states', 'max-bad-iterations',
    'max-rollbacks', 'strict-metrics', 'skip-bad-images', 'sparse-labels', 'aug', 'p', 'target', 'augpipe', 'resume',
    'freezed', 'fp32', 'cpu-bf16', 'nhwc', 'nobench', 'allow-tf32', 'workers', 'timeout']
ARGUMENTS = st.lists(st.tuples(st.sampled_from(OPTIONS), st.one_of(NUMBERS, TEXTS, PAIRS))
    .map(lambda pair: f'--{pair[0]}={pair[1]}'), max_size=4)

KEYS = st.sampled_from(['grouping', 'norm', 'norm_eps', 'num_groups', 'threshold', 'inertia', 'similarity',
    'regroup_kimg', 'info_target', 'info_mixing',
    'lambda_group', 'code_dim', 'channel_base', 'channel_max', 'mapping_layers', 'kimg', 'batch', 'learning_rate',
    'aug', 'grid', 'snap', 'workers', 'style_mixing', 'summary', 'base', 'unknown'])
TABLES = st.dictionaries(st.sampled_from(['method', 'networks', 'training', 'other']),
    st.dictionaries(KEYS, VALUES, max_size=4), max_size=3)

def as_toml(tables, top):
    def value(x):
        if isinstance(x, float):
            return repr(x).replace('inf', 'inf') if x == x else 'nan'
        return json.dumps(x) if not isinstance(x, list) else '[' + ', '.join(map(value, x)) + ']'
    return '\n'.join([*[f'{key} = {value(x)}' for key, x in top.items()], *[line for name, table in tables.items()
        for line in [f'[{name}]', *[f'{key} = {value(x)}' for key, x in table.items()]]]])

# Files of a data set.
def picture(mode, size, kind):
    stream = io.BytesIO()
    PIL.Image.new(mode, size).save(stream, kind)
    return stream.getvalue()
CONTENTS = st.one_of(st.binary(max_size=60), st.builds(picture, st.sampled_from(['L', 'RGB', '1', 'I;16', 'P', 'RGBA']),
    st.sampled_from([(16, 16), (32, 32), (16, 8), (1, 1), (17, 17)]), st.just('PNG')),
    st.builds(lambda labels: json.dumps(labels).encode(),
        st.recursive(st.one_of(st.none(), st.integers(), st.text(max_size=5)), lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(['labels', 'a']), inner, max_size=2))))
NAMES = st.sampled_from(['a.png', 'b.png', 'c/d.png', '../e.png', '/f.png', 'dataset.json', 'x.jpg',
    'notes.txt', 'ü.png'])

class World:
    """A folder with a data set and a finished run, and all that is in it."""
    def __init__(self, folder):
        self.folder = Path(folder)
        (self.folder / 'images').mkdir()
        for index in range(2):
            PIL.Image.new('RGB', (16, 16), (index, 0, 0)).save(self.folder / 'images' / f'{index}.png')
        run = self.folder / 'out' / '00000-images-tiny'
        run.mkdir(parents=True)
        (run / 'network-snapshot-000001.pkl').write_bytes(b'a snapshot')
        (run / 'training-state-000001000.pt').write_bytes(b'a state')
        (run / 'training_options.json').write_text('{}')
        os.chdir(self.folder)

    def contents(self):
        return {path: path.read_bytes() for path in self.folder.rglob('*') if path.is_file()}

    def survives(self, *arguments):
        """Run the command; it must answer or refuse, and leave everything as it is."""
        before = self.contents()
        done = CliRunner().invoke(main, [f'--outdir={self.folder / "out"}', *arguments, '--dry-run'])
        assert done.exit_code in [0, 2] and (done.exception is None
            or isinstance(done.exception, SystemExit)), (arguments, done.exception)
        assert 'Traceback' not in done.output
        if done.exit_code == 2:
            assert done.stderr.strip().splitlines()[-1].strip(), arguments
        assert self.contents() == before, arguments

@pytest.fixture
def here():
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        yield World(folder)
        os.chdir(before)

@pytest.mark.parametrize('cases', CASES)
def test_command_lines(here, cases):
    @fuzz(cases)
    @given(ARGUMENTS)
    def run(arguments):
        here.survives(f'--data={here.folder / "images"}', '--cfg=tiny', '--metrics=none', *arguments)
    run()

@pytest.mark.parametrize('cases', CASES)
def test_toml_files(here, cases):
    @fuzz(cases)
    @given(TABLES, st.dictionaries(st.sampled_from(['base', 'summary', 'other']),
        st.one_of(st.sampled_from(['tiny', 'sarigan', 'nothing', '../tiny']), VALUES), max_size=2),
        st.one_of(st.just(b''), st.binary(max_size=8)))
    def run(tables, top, rubbish):
        (here.folder / 'mine.toml').write_bytes(as_toml(tables, top).encode('utf-8', 'surrogatepass') + rubbish)
        here.survives(f'--data={here.folder / "images"}', f'--cfg={here.folder / "mine.toml"}', '--metrics=none')
    run()

@pytest.mark.parametrize('cases', CASES)
@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_data_sets(here, cases):
    @fuzz(cases)
    @given(st.lists(st.tuples(NAMES, CONTENTS), max_size=4), st.one_of(st.none(), st.integers(0, 400)),
        st.sampled_from([[], ['--cond=1'], ['--cond=1', '--sparse-labels', '--skip-bad-images=1'],
            ['--skip-bad-images=1'], ['--subset=1']]))
    def run(files, cut, options):
        path = here.folder / 'data.zip'
        with zipfile.ZipFile(path, 'w') as archive:
            for name, content in files:
                archive.writestr(name, content)
        if cut is not None:
            os.truncate(path, min(cut, path.stat().st_size))
        here.survives(f'--data={path}', '--cfg=tiny', '--metrics=none', *options)
    run()

#----------------------------------------------------------------------------
