"""Fetching, verifying and patching the StyleGAN2-ADA tree."""

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

import trees
from sarigan_plugin.cli import COMMANDS
from sarigan_plugin.errors import UserError
from sarigan_plugin.upstream import assemble, tree as upstream

PATCHES = {'submodule': ['generate', 'networks', 'tools', 'train', 'training'],
           'pypi':      ['networks', 'tools', 'train', 'training']}
HOOKED  = {'submodule': ['calc_metrics.py', 'generate.py', 'legacy.py', 'projector.py', 'style_mixing.py', 'train.py',
        'training/training_loop.py'],
           'pypi':      ['calc_metrics.py', 'legacy.py', 'projector.py', 'style_mixing.py', 'train.py',
        'training/training_loop.py']}

def contents(tree):
    return {str(path.relative_to(tree)): path.read_bytes() for path in sorted(tree.rglob('*'))
        if path.is_file() and '.git' not in path.parts and '.sarigan-patches' not in path.parts}

@pytest.fixture(params=['git', 'pypi'])
def any_tree(request):
    """Of each kind, by which changes are found and patches kept; the submodule's may be a stand-in."""
    return request.getfixturevalue(f'{request.param}_tree')

#----------------------------------------------------------------------------
# Patches.

TAKEN_OUT = ['for p_ema, p in zip(G_ema.parameters(), G.parameters()):', 'p_ema.copy_(p.lerp(p_ema, ema_beta))',
    'for b_ema, b in zip(G_ema.buffers(), G.buffers()):', 'b_ema.copy_(b)']

def test_patches_change_only_the_hooked_files_and_add_a_few_lines(any_tree):
    kind = upstream.identify(any_tree).kind
    before = contents(any_tree)
    assert upstream.apply_patches(any_tree) == PATCHES[kind]
    after = contents(any_tree)
    assert [name for name in before if after[name] != before[name]] == HOOKED[kind]
    for name in HOOKED[kind]:
        old, new = before[name].decode().splitlines(), after[name].decode().splitlines()
        added = [line for line in new if 'sarigan_plugin' in line and line not in old]
        assert len(added) == (2 if 'take_any_network' in after[name].decode() else 1)
        taken_out = TAKEN_OUT if name.endswith('training_loop.py') else [] # The average, which a call makes.
        assert [line.strip() for line in old if line not in new] == taken_out
        # The line, and calls of what it imports or an empty one.
        assert len(new) - len(old) + len(taken_out) <= (5 if taken_out else 2 * len(added))

def test_an_unpatched_copy_is_the_clean_tree_and_leaves_the_patched_one_alone(any_tree, tmp_path):
    clean = contents(any_tree)
    upstream.apply_patches(any_tree)
    patched = contents(any_tree)
    assert contents(upstream.copy_unpatched(tmp_path / 'copy', any_tree)) == clean != patched == contents(any_tree)

def test_patched_scripts_are_valid_python_and_bind_our_names(any_tree):
    upstream.apply_patches(any_tree)
    for name in HOOKED[upstream.identify(any_tree).kind]:
        compile((any_tree / name).read_text(encoding='utf-8-sig'), name, 'exec')
    assert '\n    from sarigan_plugin.hooks import train as main # ' in (any_tree / 'train.py').read_text()
    assert '\nfrom sarigan_plugin.hooks import host_torch as torch # ' in (any_tree / 'calc_metrics.py').read_text()

def test_a_patched_tool_runs_on_the_device_that_this_machine_has(any_tree, tmp_path):
    upstream.apply_patches(any_tree)
    code = ("import pickle, runpy, sys; sys.path.insert(0, '.'); import dnnlib\n"
        "G = dnnlib.util.construct_class_by_name(class_name='training.networks.Generator', z_dim=8, c_dim=0, w_dim=8, "
        "img_resolution=16, img_channels=3, mapping_kwargs=dict(num_layers=1), synthesis_kwargs=dict(channel_base=64, "
        "channel_max=8)).eval()\npickle.dump(dict(G=G, D=G, G_ema=G, training_set_kwargs=None, augment_pipe=None), "
        "open(sys.argv[1], 'wb'))\nsys.argv = ['style_mixing.py', '--network', sys.argv[1], '--rows=1', '--cols=2', "
        "'--styles=0-1', '--outdir', sys.argv[2]]\nrunpy.run_path('style_mixing.py', run_name='__main__')\n")
    done = trees.run([sys.executable, '-c', code, tmp_path / 'network.pkl', tmp_path / 'out'], any_tree)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['1-1.png', '1-2.png', '2-2.png', 'grid.png']

def test_applied_patches_are_detected_and_applied_no_second_time(any_tree):
    names = PATCHES[upstream.identify(any_tree).kind]
    assert upstream.patch_status(any_tree) == dict.fromkeys(names, 'missing')
    upstream.apply_patches(any_tree)
    once = contents(any_tree)
    assert upstream.patch_status(any_tree) == dict.fromkeys(names, 'applied')
    assert upstream.apply_patches(any_tree) == []
    assert contents(any_tree) == once

def test_patches_reverse_to_the_original_files(any_tree):
    before = contents(any_tree)
    kind = upstream.identify(any_tree).kind
    upstream.apply_patches(any_tree)
    for patch in upstream.patches(kind):
        trees.git(any_tree, 'apply', '--reverse', patch.path)
    assert contents(any_tree) == before

def test_a_half_applied_patch_is_completed(any_tree):
    upstream.apply_patches(any_tree)
    complete = contents(any_tree)
    trees.git(any_tree, 'apply', '--reverse', '--include=projector.py', trees.ROOT / 'patches' / 'tools.patch')
    assert upstream.patch_status(any_tree)['tools'] == 'missing'
    assert upstream.identify(any_tree).ok
    assert upstream.apply_patches(any_tree) == ['tools']
    assert contents(any_tree) == complete

def test_a_patch_that_does_not_fit_is_named_together_with_the_file(any_tree):
    (any_tree / 'projector.py').write_text('print("mine")\n')
    assert upstream.patch_status(any_tree)['tools'] == 'conflict'
    with pytest.raises(UserError, match=r'^networks\.patch does not fit .*projector\.py: '
            r'give the file its original content and run again\.$'):
        upstream.apply_patches(any_tree)

def test_each_patch_has_a_reason_and_one_line_of_context():
    for path in sorted((trees.ROOT / 'patches').glob('*.patch')):
        header, _, body = path.read_text().partition('\n--- ')
        assert '\nWhy: ' in header, path.name
        for hunk in body.split('\n@@ ')[1:]:
            lines = hunk.split('\n--- ')[0].rstrip('\n').split('\n')[1:]
            assert [line[:1] or ' ' for line in lines if line[:1] not in ('+', '-')] == [' ', ' '], path.name

#----------------------------------------------------------------------------
# Verifying.

def test_a_clean_tree_is_recognised_with_and_without_our_patches(any_tree):
    kind = upstream.identify(any_tree).kind
    for _ in range(2):
        origin = upstream.identify(any_tree)
        assert (origin.kind, origin.commit, origin.ok, origin.keep) == (kind, upstream.COMMIT, True, None)
        assert origin.detail == 'unmodified apart from our patches'
        upstream.apply_patches(any_tree)

def test_an_edited_file_is_found_also_beside_a_patch(any_tree):
    upstream.apply_patches(any_tree)
    for name in ('legacy.py', 'train.py'):
        with open(any_tree / name, 'a', encoding='utf-8') as f:
            f.write('# mine\n')
    origin = upstream.identify(any_tree)
    assert not origin.ok
    assert origin.changed == ('legacy.py', 'train.py')
    assert origin.detail == 'modified: legacy.py, train.py'
    assert origin.keep == 'has changes of yours in legacy.py, train.py'

def test_files_added_to_a_tree_do_not_count_as_changes(any_tree):
    (any_tree / 'training-runs').mkdir()
    (any_tree / 'training-runs' / 'network.pkl').write_bytes(b'mine')
    assert upstream.identify(any_tree).ok

def test_a_missing_file_is_found(any_tree):
    (any_tree / 'legacy.py').unlink()
    origin = upstream.identify(any_tree)
    assert (origin.ok, origin.missing, origin.detail, origin.keep) == (False, ('legacy.py',),
        'missing: legacy.py', None)

def test_another_commit_is_not_the_pinned_one(git_tree):
    trees.git(git_tree, 'checkout', '--quiet', 'HEAD~1')
    origin = upstream.identify(git_tree)
    assert not origin.ok
    assert origin.detail.endswith(f'instead of {upstream.COMMIT[:7]}')

def test_a_commit_that_no_branch_holds_is_kept(git_tree):
    trees.git(git_tree, '-c', 'user.name=me', '-c', 'user.email=me@localhost', 'commit', '--quiet',
        '--allow-empty', '-m', 'mine')
    assert upstream.identify(git_tree).keep == 'has commits of yours that no branch holds'

def test_an_assembled_tree_of_another_version_is_not_ok_but_may_be_replaced(pypi_tree):
    marker = json.loads((pypi_tree / assemble.MARKER).read_text())
    marker['files']['train.py'] = assemble.sha256(b'older')
    (pypi_tree / 'train.py').write_text('older')
    (pypi_tree / assemble.MARKER).write_text(json.dumps(marker))
    origin = upstream.identify(pypi_tree)
    assert (origin.ok, origin.detail, origin.keep) == (False, 'assembled by another version of sarigan', None)

def test_a_foreign_folder_is_of_unknown_origin(tmp_path):
    (tmp_path / 'train.py').write_text('')
    assert upstream.identify(tmp_path).kind == 'other'
    assert upstream.identify(tmp_path / 'nowhere').kind == 'missing'

#----------------------------------------------------------------------------
# Assembling.

def test_the_assembled_train_py_says_what_to_do_until_it_is_patched(pypi_tree):
    done = trees.run([sys.executable, 'train.py'], pypi_tree)
    assert done.returncode == 1
    assert done.stderr.strip() == "sarigan's patches are not applied: run ./install.sh"

def test_an_edit_that_does_not_match_stops_the_assembly():
    with pytest.raises(assemble.AssemblyError,
            match=r'^legacy\.py is not what it should be: .x. was found 0 times instead of once\.$'):
        assemble.edit('legacy.py', 'import torch\n', 'x', 'y')
    with pytest.raises(assemble.AssemblyError,
            match=r'^legacy\.py is not .*: .if x:. was found 0 times instead of 1\.$'):
        assemble.resolve_branches('legacy.py', 'import torch\n', 'if x:', 'else')

def test_wheels_with_other_content_are_refused(tmp_path):
    wheels = dict()
    for number, requirement in enumerate(assemble.WHEELS):
        wheels[requirement] = tmp_path / f'{number}.whl'
        with zipfile.ZipFile(wheels[requirement], 'w') as archive:
            archive.writestr(assemble.LIBRARY_PREFIX + 'legacy.py', 'import os')
    with pytest.raises(assemble.AssemblyError,
            match=f'^The assembled tree has the sha256 [0-9a-f]{{64}} instead of {assemble.TREE_SHA256}.$'):
        assemble.assemble_files(wheels)

@pytest.mark.parametrize('keep, expected', [('if', 'a = 1\nb = 2\nend'), ('else', 'c = 3\nend')])
def test_a_branch_is_resolved_to_its_lines(keep, expected):
    assert assemble.resolve_branches('x', 'if odd:\n    a = 1\n    b = 2\nelse:\n    c = 3\nend', 'if odd:',
        keep) == expected

#----------------------------------------------------------------------------
# Both trees compute the same.

def test_both_trees_give_bit_identical_parameters_outputs_and_gradients_in_all_four_phases(submodule_tree,
        pypi_tree, tmp_path):
    hashes = dict()
    for tree in (submodule_tree, pypi_tree):
        out = tmp_path / f'{tree.name}.json'
        done = trees.run([sys.executable, trees.SUPPORT / 'phase_hashes.py', out], tree)
        assert done.returncode == 0, done.stderr
        hashes[tree.name] = json.loads(out.read_text())
    ours, theirs = hashes['pypi_tree'], hashes['submodule_tree']
    assert list(theirs) == ['start', 'Gmain', 'Greg', 'Dmain', 'Dreg', 'output']
    for phase in ('Gmain', 'Greg', 'Dmain', 'Dreg'):
        assert sum(name.endswith(' gradient') for name in theirs[phase]) > 30 # the phase did compute gradients
        assert theirs[phase] != theirs['start']
    assert ours == theirs

#----------------------------------------------------------------------------
# `sarigan upstream`, in a copy of the project.

def test_the_submodule_is_taken_where_it_can_be_had(tmp_path):
    project = trees.Project(tmp_path / 'a project', reachable=True)
    done = project.sarigan('upstream')
    assert done.returncode == 0, done.stderr
    assert (done.stdout == 'stylegan2-ada-pytorch: '
        f'git submodule, commit {project.commit[:7]}, patches generate, networks, tools, train, training applied\n')
    assert project.origin().ok
    # patched, not dirty
    assert trees.git(project.folder, 'status', '--short', '--', upstream.FOLDER).strip() == f'A  {upstream.FOLDER}'

    project.reach(False) # the second run needs no network
    again = project.sarigan('upstream')
    assert (again.returncode, again.stdout) == (0, done.stdout)

def test_changes_of_a_user_are_refused_and_kept(tmp_path):
    project = trees.Project(tmp_path / 'project', reachable=True)
    assert project.sarigan('upstream').returncode == 0
    mine = (project.tree / 'train.py').read_text() + '# mine\n'
    (project.tree / 'train.py').write_text(mine)
    for kind in upstream.KINDS:
        done = project.sarigan('upstream', f'--upstream={kind}')
        assert done.returncode == 2
        assert (done.stderr == f'Error: {project.tree} has changes of yours in train.py: '
            'save what you need, remove the folder and run again.\n')
        assert (project.tree / 'train.py').read_text() == mine

def test_missing_files_and_another_commit_are_mended_without_network(tmp_path):
    project = trees.Project(tmp_path / 'project', reachable=True)
    assert project.sarigan('upstream').returncode == 0
    project.reach(False)
    (project.tree / 'legacy.py').unlink()
    shutil.rmtree(project.tree / 'metrics')
    assert project.sarigan('upstream').returncode == 0
    assert project.origin().ok
    assert (project.tree / 'metrics' / 'metric_main.py').is_file()

def test_a_newer_version_of_a_patch_takes_the_place_of_the_older(tmp_path):
    project = trees.Project(tmp_path / 'project', reachable=True)
    assert project.sarigan('upstream').returncode == 0
    patch = project.folder / 'patches' / 'train.patch'
    patch.write_text(patch.read_text().replace('adds our', 'adds all our'))
    assert project.sarigan('upstream').returncode == 0
    text = (project.tree / 'train.py').read_text()
    assert text.count('sarigan_plugin') == 1
    assert 'adds all our' in text

def test_an_assembled_tree_is_replaced_by_the_submodule_and_back_with_all_that_was_added(tmp_path, pypi_tree):
    project = trees.Project(tmp_path / 'project', reachable=True)
    shutil.copytree(pypi_tree, project.tree, dirs_exist_ok=True)
    (project.tree / 'training-runs').mkdir()
    (project.tree / 'training-runs' / 'network.pkl').write_bytes(b'mine')
    (project.tree / 'README.md').write_text('mine')
    assert project.sarigan('upstream').returncode == 0
    assert project.origin().kind == 'submodule'
    assert (project.tree / 'training-runs' / 'network.pkl').read_bytes() == b'mine'
    assert (project.tree / 'README.md.before').read_text() == 'mine' # upstream has a file of that name

    assert project.sarigan('upstream', '--upstream=pypi').returncode == 0
    assert (project.origin().kind, project.origin().ok) == ('pypi', True)
    assert (project.tree / 'training-runs' / 'network.pkl').read_bytes() == b'mine'
    assert [name for name in os.listdir(project.folder) if name.startswith('.stylegan2')] == []

def test_an_assembled_tree_is_kept_where_github_does_not_answer(tmp_path, pypi_tree):
    project = trees.Project(tmp_path / 'project', reachable=False)
    shutil.copytree(pypi_tree, project.tree, dirs_exist_ok=True)
    done = project.sarigan('upstream')
    assert done.returncode == 0, done.stderr
    assert (done.stdout == 'stylegan2-ada-pytorch: '
        'assembled from Python packages, commit d72cc7d, patches networks, tools, train, training applied\n')

def test_a_failed_replacement_leaves_the_assembled_tree_as_it_was(tmp_path, pypi_tree):
    project = trees.Project(tmp_path / 'project', reachable=False)
    shutil.copytree(pypi_tree, project.tree, dirs_exist_ok=True)
    before = contents(project.tree)
    done = project.sarigan('upstream', '--upstream=submodule')
    assert done.returncode == 2
    assert done.stderr.startswith(f'Error: The submodule cannot be had: {trees.URL} could not be reached (')
    assert done.stderr.count('\n') == 1
    assert contents(project.tree) == before

@pytest.mark.parametrize('new', ['missing', 'unfinished', 'finished'])
def test_an_exchange_that_was_killed_is_mended(tmp_path, pypi_tree, new):
    project = trees.Project(tmp_path / 'project', reachable=False)
    aside = project.folder / f'.{upstream.FOLDER}.aside'
    shutil.copytree(pypi_tree, aside)
    (aside / 'out').mkdir()
    (aside / 'out' / 'fakes.png').write_bytes(b'mine')
    if new == 'missing':
        project.tree.rmdir()
    elif new == 'unfinished':
        (project.tree / 'dnnlib').mkdir()
        (project.tree / 'dnnlib' / 'util.py').write_text('half')
    else:
        shutil.copytree(pypi_tree, project.tree, dirs_exist_ok=True)
    assert project.sarigan('upstream').returncode == 0
    assert project.origin().ok
    assert (project.tree / 'out' / 'fakes.png').read_bytes() == b'mine'
    assert not aside.exists()

def test_where_neither_origin_can_be_had_one_sentence_says_so(tmp_path):
    project = trees.Project(tmp_path / 'project', reachable=False)
    done = project.sarigan('upstream', PIP_NO_INDEX=1, PIP_FIND_LINKS='', PIP_CONFIG_FILE=os.devnull)
    assert done.returncode == 2
    assert done.stderr.startswith(f'Error: stylegan2-ada-pytorch cannot be had: {trees.URL} could not be reached (')
    assert ', and pip could not download draggan==1.1.6 and slideflow-noncommercial==0.0.2 (' in done.stderr
    assert done.stderr.count('\n') == 1
    assert list(project.tree.iterdir()) == []

def test_a_foreign_folder_is_left_alone(tmp_path):
    project = trees.Project(tmp_path / 'project', reachable=False)
    (project.tree / 'notes.txt').write_text('mine')
    done = project.sarigan('upstream')
    assert done.returncode == 2
    assert (done.stderr == f'Error: {project.tree} holds files that sarigan did not put there: '
        'save what you need, remove the folder and run again.\n')

def test_an_unknown_origin_is_refused(tmp_path):
    done = trees.Project(tmp_path / 'project', reachable=False).sarigan('upstream', '--upstream=ftp')
    assert done.returncode == 2
    assert "'ftp' is not one of 'auto', 'submodule', 'pypi'" in done.stderr

#----------------------------------------------------------------------------
# The package and its command.

def test_importing_the_package_makes_upstream_importable_from_any_folder(tmp_path, any_tree):
    project = trees.Project(tmp_path / 'project', reachable=False)
    shutil.copytree(any_tree, project.tree, dirs_exist_ok=True, ignore=shutil.ignore_patterns('.git'))
    code = 'import sarigan_plugin, dnnlib, sys; print(dnnlib.__file__); assert "torch" not in sys.modules'
    done = trees.run([sys.executable, '-c', code], tmp_path, PYTHONPATH=project.folder)
    assert Path(done.stdout.strip()) == project.tree / 'dnnlib' / '__init__.py', done.stderr

def test_the_package_imports_without_a_tree(tmp_path):
    project = trees.Project(tmp_path / 'project', reachable=False)
    done = trees.run([sys.executable, '-c', 'import sarigan_plugin; '
        'print(sarigan_plugin.upstream.tree.find(), sarigan_plugin.upstream.tree.activate())'],
        tmp_path, PYTHONPATH=project.folder)
    assert done.stdout == 'None False\n', done.stderr

def test_the_help_lists_every_command_without_importing_any():
    code = ('import sys; from sarigan_plugin.cli import main, COMMANDS\ntry: main(["--help"])\nfinally: '
        'print([n for n in sys.modules if n in ("torch", "numpy")])')
    done = trees.run([sys.executable, '-c', code], trees.ROOT)
    for name in ('train', 'demo', 'data', 'generate', 'groups', 'doctor', 'upstream'):
        assert f'\n  {name} ' in done.stdout
    assert done.stdout.endswith('[]\n'), done.stdout

def test_an_unknown_command_lists_the_valid_ones():
    done = trees.run([sys.executable, '-m', 'sarigan_plugin.cli', 'trian'], trees.ROOT)
    assert done.returncode == 2
    assert (done.stderr == f"Error: There is no command 'trian'; the commands are {', '.join(COMMANDS)}.\n"
        and 'train, ablate, list, generate' in done.stderr)

#----------------------------------------------------------------------------
