"""Wrong files, given to upstream's scripts."""

import io
import pickle
import sys

import PIL.Image
import pytest

import trees
from sarigan_plugin import hooks
from sarigan_plugin.upstream import mistakes, tree as upstream

import legacy
from training.dataset import ImageFolderDataset

TREE = upstream.root() / upstream.FOLDER

def said(function, *words):
    """What is said of the error that a function raises."""
    with pytest.raises(Exception) as raised:
        function()
    return mistakes.sentence_of(raised.value, words)

def test_a_file_that_cannot_be_opened_is_named_with_its_option(tmp_path):
    path = str(tmp_path / 'no.pkl')
    missing = lambda: open(path)
    expected = f'--network: {path!r} cannot be opened: No such file or directory.'
    assert said(missing, f'--network={path}', '--seeds=0') == expected
    assert said(missing, '--seeds', '0', '--network', path) == expected
    assert said(missing, '--network=other.pkl') is None # Not the user's.
    assert said(lambda: open(tmp_path), f'--outdir={tmp_path}').startswith('--outdir: ')

@pytest.mark.parametrize('content, why', [(b'#!/usr', "UnpicklingError: invalid load key, '#'"), (b'', 'EOFError'),
    (pickle.dumps(dict(a=1)), "KeyError: 'G'"), (pickle.dumps(dict(G=1)), 'AssertionError')])
def test_a_file_without_networks(content, why):
    read = lambda: legacy.load_network_pkl(io.BytesIO(content))
    for option in ['--network', '--source']:
        sentence = said(read, f'{option}=some.pkl')
        assert sentence.startswith(f"{option}: 'some.pkl' holds no networks of StyleGAN2 ({why}"), sentence
    assert said(read) is None

def test_a_data_set_that_is_none(tmp_path):
    (tmp_path / 'a.txt').write_text('')
    for path in [tmp_path / 'a.txt', tmp_path]:
        sentence = said(lambda path=path: ImageFolderDataset(str(path)), f'--data={path}')
        assert sentence.startswith(f'--data: {str(path)!r} is no data set that can be read (OSError: '), sentence

def test_other_errors_are_nobodys_file(tmp_path):
    assert said(lambda: 1 / 0, '--network=a.pkl') is None
    assert said(lambda: PIL.Image.open(io.BytesIO(b'x')), '--target=a.png') is None # Not where a target is read.
    assert mistakes.sentence_of(KeyboardInterrupt(), []) is None

@pytest.mark.parametrize('script, option, others', [('legacy.py', '--source', ['--dest=new.pkl']),
    ('calc_metrics.py', '--network', ['--metrics=fid50k_full'])])
def test_a_script_says_so_and_exits_with_2(script, option, others, tmp_path):
    path = tmp_path / 'text.pkl'
    path.write_text('#')
    done = trees.run([sys.executable, script, f'{option}={path}', *others], TREE)
    assert done.returncode == 2 and not (TREE / 'new.pkl').exists()
    lines = (done.stdout + done.stderr).splitlines() # calc_metrics.py has errors go where all else does.
    assert lines[-1] == (f"Error: {option}: '{path}' holds no networks of StyleGAN2 "
        "(UnpicklingError: invalid load key, '#').")
    assert not any('Traceback' in line for line in lines)

def test_asking_for_sentences_tells_mistakes_from_then_on(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, 'excepthook', sys.__excepthook__)
    assert hooks.sentences
    monkeypatch.setattr(sys, 'argv', ['legacy.py', f'--source={tmp_path / "no"}'])
    error = FileNotFoundError(2, 'No such file or directory', str(tmp_path / 'no'))
    with pytest.raises(SystemExit) as exited:
        sys.excepthook(type(error), error, None)
    assert exited.value.code == 2
    assert capsys.readouterr().err == (f"Error: --source: '{tmp_path / 'no'}' cannot be opened: "
        'No such file or directory.\n')
    sys.excepthook(ValueError, ValueError('x'), None)
    assert capsys.readouterr().err == 'ValueError: x\n'
