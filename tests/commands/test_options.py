"""~ in paths: every option and argument that may be a path takes it, as the configs do."""

import os
import re

import click
import pytest

import trees
from commands import run
from sarigan_plugin.ablation import table_spec
from sarigan_plugin.cli import COMMANDS, main
from sarigan_plugin.commands.options import PathName
from sarigan_plugin.errors import UserError
from sarigan_plugin.support.paths import expanded
from sarigan_plugin.trainer import recipes

#----------------------------------------------------------------------------

def leaves(name, command):
    """(name, command) of all commands below one."""
    if not isinstance(command, click.Group):
        return [(name, command)]
    return [leaf for child in command.list_commands(None)
        for leaf in leaves(f'{name} {child}', command.get_command(None, child))]

# What is typed freely and is no path. A new option is a path or belongs here.
WORDS = {'layers', 'layer', 'group', 'name', 'remove', 'setting', 'num_groups', 'background',
    'licence', 'trained_on', 'data_licence', 'command', 'machine', 'limits'}

ALL = [leaf for name in COMMANDS for leaf in leaves(name, main.get_command(None, name))]

@pytest.mark.parametrize('name, command', ALL, ids=lambda value: value if isinstance(value, str) else '')
def test_every_option_and_argument_that_may_be_a_path_is_of_the_one_type(name, command):
    free = [param for param in command.params
        if param.type.name in ['text', 'filename', 'path', 'directory'] and param.name not in WORDS]
    named = [param for param in command.params
        if re.search(r'PKL|DIR|FILE|PATH|ZIP|NPZ|JSON|TOML|SOURCE', param.make_metavar(click.Context(command)))]
    assert [param.name for param in free + named if not isinstance(param.type, PathName)] == [], name

def test_so_are_those_of_benchmarks():
    for script in sorted((trees.ROOT / 'benchmarks').glob('*.py')):
        for line in re.findall(r".*metavar='(?:DIR|PATH)'.*", script.read_text(encoding='utf-8')):
            assert 'type=PATH' in line, line

#----------------------------------------------------------------------------

@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder, beside the folder that commands run in."""
    for folder in ['home', 'here']:
        (tmp_path / folder).mkdir()
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path / 'here')
    return tmp_path / 'home'

def test_a_path_is_as_a_shell_has_it(home):
    assert expanded('~/x') == f'{home}/x' and expanded('~') == str(home)
    assert expanded('~root/x') == os.path.expanduser('~root/x') != '~root/x'
    assert expanded('~/mine.py:score') == f'{home}/mine.py:score'

@pytest.mark.parametrize('path', [
    'x', './~x', 'a/~/x', 'https://example.com/~me/x.pkl', 'file:///~/x', 'ffhq256', 'mixed', 'none', 'latest', '',
])
def test_other_words_and_urls_stay_as_they_are(path, home):
    assert expanded(path) == path

def test_a_home_that_nobody_has_is_named_and_no_folder_is_made(home, network):
    done = run('groups', network, '--outdir=~nobody-of-this-name/x')
    sentence = ("Invalid value for '--outdir': no home folder is known for '~nobody-of-this-name'; "
        "a name that begins with ~ is given as './~nobody-of-this-name/x'")
    assert done.exit_code == 2 and sentence in done.stderr
    assert os.listdir('.') == os.listdir(home) == []

def test_a_file_whose_name_begins_with_a_tilde_is_found(home):
    with open('~draft.zip', 'wb'):
        assert expanded('~draft.zip') == '~draft.zip'

def test_commands_read_and_write_in_the_home_folder(home, network):
    os.rename(network, home / 'network.pkl')
    for arguments in [
        ('generate', '--network=~/network.pkl', '--seeds=1', '--outdir=~/images', '--device=cpu'),
        ('export', '~/network.pkl', '--to=~/exported'),
        ('import', '~/exported', '--to=~/again.pkl'),
        ('name', '~/network.pkl', '--layer=b8.conv0', '--group=0', '--as=sky'),
        ('name', '~/again.pkl', '--from=~/network.pkl'),
    ]:
        done = run(*arguments)
        assert done.exit_code == 0, done.output
    assert sorted(os.listdir(home)) == ['again.names.json', 'again.pkl', 'exported', 'images', 'network.names.json',
        'network.pkl']
    assert os.listdir(home / 'images') == ['seed0001.png'] and os.listdir('.') == []

def test_trainings_keep_the_whole_path_and_go_on_from_it(home, images, cfg):
    os.symlink(images, home / 'images.zip')
    os.symlink(cfg, home / 'mine.toml')
    (home / 'runs').mkdir()
    command = ['train', '--cfg=~/mine.toml', '--data=~/images.zip', '--outdir=~/runs', '--metrics=none',
        '--device=cpu', '--dry-run']
    done = run(*command)
    assert done.exit_code == 0, done.output
    assert f'"path": "{home}/images.zip"' in done.stdout and f'{home}/runs/00000-images' in done.stdout
    assert f"--resume: {home}/runs has no training state" in run(*command, '--resume=~/runs').stderr
    assert f'{home}/nothing.pkl' in run(*command, '--resume=~/nothing.pkl').stderr
    assert os.listdir('.') == []

#----------------------------------------------------------------------------
# TOML.

def test_masks_of_a_config_may_be_in_the_home_folder(home, tmp_path):
    text = (recipes.our_configs()['tiny-inpaint']).read_text(encoding='utf-8')
    (tmp_path / 'mine.toml').write_text(re.sub(r'masks += .*', 'masks = "~/holes"', text))
    assert recipes.read_recipe(tmp_path / 'mine.toml').inpainting.masks == f'{home}/holes'
    (tmp_path / 'mine.toml').write_text(re.sub(r'masks += .*', 'masks = "~nobody-of-this-name"', text))
    with pytest.raises(UserError, match="mine.toml: masks: no home folder is known for '~nobody-of-this-name'"):
        recipes.read_recipe(tmp_path / 'mine.toml')

def test_so_may_the_config_and_the_network_of_an_ablation(home, tmp_path):
    (tmp_path / 'mine.toml').write_text('title = "Mine"\ncfg = "~/mine.toml"\nmetrics = ["fd10k_lite0"]\n[options]\n'
        'resume = "~/a.pkl"\n[rows.one]\nmasks = "~/holes"\n[rows.two]\ncfg = "~/b.toml"\n')
    table = table_spec.read(str(tmp_path / 'mine.toml'))
    assert table.cfg == f'{home}/mine.toml' and dict(table.options) == dict(resume=f'{home}/a.pkl')
    assert [row.options for row in table.rows] == [dict(masks=f'{home}/holes'), dict(cfg=f'{home}/b.toml')]

#----------------------------------------------------------------------------
# Upstream's scripts leave ~ to the shell, which looks for it at the beginning of a word alone.

def test_documents_do_not_write_a_tilde_where_nobody_expands_it():
    for path in [trees.ROOT / 'README.md', *(trees.ROOT / 'docs').glob('*.md')]:
        for line in path.read_text(encoding='utf-8').splitlines():
            if re.search(r'\b(calc_metrics|projector|style_mixing|legacy)\.py', line):
                assert '=~' not in line, f'{path.name}: {line}'

#----------------------------------------------------------------------------
