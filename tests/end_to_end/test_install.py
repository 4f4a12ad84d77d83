"""install.sh: the parts that need no network; whole installations are marked slow."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

import limits
import trees

SCRIPT = trees.ROOT / 'install.sh'

def install(*arguments, script=SCRIPT, cwd='/', **environment):
    return trees.run(['bash', script, *arguments], cwd, **environment)

#----------------------------------------------------------------------------

def test_bash_accepts_the_scripts():
    for script in (SCRIPT, trees.ROOT / '.ci' / 'run'):
        assert trees.run(['bash', '-n', script], '/').returncode == 0
        assert os.access(script, os.X_OK)

def test_help_names_both_jobs_and_the_option():
    done = install('--help')
    assert done.returncode == 0
    for text in ('./install.sh demo', './install.sh test', '--upstream=KIND'):
        assert text in done.stdout

@pytest.mark.parametrize('arguments, sentence', [
    (['tets'],              "Error: 'tets' is neither demo, test nor an option of install.sh; "
                            "see ./install.sh --help.\n"),
    (['--force'],           "Error: '--force' is neither demo, test nor an option of install.sh; "
                            "see ./install.sh --help.\n"),
    (['--upstream=ftp'],    'Error: --upstream must be auto, submodule or pypi, as in --upstream=pypi.\n'),
    (['--upstream', 'pypi'], 'Error: --upstream must be auto, submodule or pypi, as in --upstream=pypi.\n'),
])
def test_a_word_it_does_not_know_is_one_sentence_and_exit_code_2(arguments, sentence):
    done = install(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, '', sentence)

def test_the_requirements_are_exact_and_within_the_ranges_of_the_package():
    pins = [line.partition(';')[0].strip() for line in (trees.ROOT / 'requirements.txt').read_text().splitlines()
        if line and line[0] != '#']
    assert all(pin.count('==') == 1 for pin in pins)
    assert 'torch==2.13.0' in pins
    names = {pin.partition('==')[0] for pin in pins}
    assert {'click', 'numpy', 'scipy', 'pillow', 'psutil', 'requests', 'ninja', 'imageio', 'setuptools', 'pytest',
        'hypothesis'} <= names

def test_no_python_that_is_new_enough_is_one_sentence(tmp_path):
    tools = tmp_path / 'bin'
    tools.mkdir()
    for name in ('bash', 'cat', 'dirname', 'mktemp', 'rm', 'ls', 'tail'):
        (tools / name).symlink_to(shutil.which(name))
    (tools / 'python3').write_text('#!/bin/sh\nexit 1\n') # as an old Python answers the version check
    (tools / 'python3').chmod(0o755)
    shutil.copy(SCRIPT, tmp_path)
    done = install(script=tmp_path / 'install.sh', PATH=tools, VIRTUAL_ENV='')
    assert (done.returncode, done.stderr) == (1,
        'Error: No Python 3.10 or newer was found: install one and run again.\n')

def test_a_folder_named_venv_that_is_no_environment_is_left_alone(tmp_path):
    shutil.copy(SCRIPT, tmp_path)
    (tmp_path / '.venv').mkdir()
    (tmp_path / '.venv' / 'notes.txt').write_text('mine')
    done = install(script=tmp_path / 'install.sh', VIRTUAL_ENV='')
    assert (done.returncode, done.stderr) == (1,
        f'Error: {tmp_path}/.venv is in the way: it is no virtual environment.\n')
    assert (tmp_path / '.venv' / 'notes.txt').read_text() == 'mine'

#----------------------------------------------------------------------------
# Whole runs in a copy of the project whose packages are this environment's, so that pip has nothing to download.

@pytest.fixture
def project(tmp_path):
    """A copy whose environment sees all packages of the one that runs the tests, and whose pip only notes its calls."""
    project = trees.Project(tmp_path / 'a project', reachable=False)
    (project.folder / 'requirements.txt').write_text('')
    (project.folder / 'pyproject.toml').write_text('')
    environment = project.folder / '.venv'
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', environment], check=True)
    packages = next((environment / 'lib').glob('python*/site-packages'))
    # As a folder of packages of its own, so that setuptools takes the place of distutils from Python 3.12 on.
    (packages / 'all.pth').write_text(f'{project.folder}\n' + ''.join(
        f'import site; site.addsitedir({path!r})\n' for path in sys.path if path.endswith('-packages')))
    (packages / 'pip').mkdir()
    (packages / 'pip' / '__init__.py').write_text('')
    (packages / 'pip' / '__main__.py').write_text(
        'import os, sys, time\n'
        f'with open({str(tmp_path / "pip.log")!r}, "at") as f: f.write(" ".join(sys.argv[1:3]) + "\\n")\n'
        'if sys.argv[1] == "install": time.sleep(float(os.environ.get("PIP_TAKES", 0))); '
        'sys.exit(int(os.environ.get("PIP_EXIT", 0)))\n')
    return project

def run_install(project, *arguments, **environment):
    return install(*arguments, script=project.folder / 'install.sh', VIRTUAL_ENV='',
        GIT_CONFIG_GLOBAL=project.settings, **environment)

def pip_installs(project):
    return (project.folder.parent / 'pip.log').read_text().count('install ')

def put_tree(project, tree):
    shutil.copytree(tree, project.tree, dirs_exist_ok=True)

def test_an_installation_ends_with_the_doctor_and_the_test_job_after_it_skips_pip(project, pypi_tree):
    put_tree(project, pypi_tree)
    first = run_install(project)
    assert first.returncode == 0, first.stdout + first.stderr
    lines = first.stdout.splitlines()
    assert [line.partition(' ...')[0] for line in lines[:2]] == ['Installing packages (PyTorch: '
        'minutes the first time)', 'Fetching and patching stylegan2-ada-pytorch']
    assert all(line.endswith(' s') for line in lines[:2]) # a time for each step
    assert [line for line in lines if 'patches    networks, tools, train, training applied' in line]
    assert pip_installs(project) == 2

    # The test job passes its arguments to pytest, with one thread per process.
    (project.folder / 'tests').mkdir()
    (project.folder / 'tests' / 'test_it.py').write_text(
        'import os\ndef test_threads(): assert os.environ["OMP_NUM_THREADS"] == "1"\ndef test_other(): assert False\n')
    second = run_install(project, 'test', '-k', 'threads')
    assert second.returncode == 0, second.stdout + second.stderr
    assert '1 passed' in second.stdout and 'failed' not in second.stdout
    assert 'Installing packages' not in second.stdout
    assert pip_installs(project) == 2

def test_other_requirements_are_installed_and_a_run_killed_in_pip_is_taken_up_by_the_next(project, pypi_tree):
    put_tree(project, pypi_tree)
    assert run_install(project, '--upstream=submodule').returncode == 2 # Packages are there, and no submodule.
    assert pip_installs(project) == 2
    (project.folder / 'requirements.txt').write_text('# another\n')
    environment = os.environ | dict(VIRTUAL_ENV='', GIT_CONFIG_GLOBAL=str(project.settings), PIP_TAKES=str(limits.HANG))
    process = subprocess.Popen(['bash', str(project.folder / 'install.sh')], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL)
    limits.wait_until(lambda: pip_installs(project) == 3, 'pip')
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = run_install(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'Installing packages' in done.stdout
    assert pip_installs(project) == 5 # Two, the killed one, and two that ended.

def test_a_failing_pip_ends_the_installation_with_a_sentence(project):
    done = run_install(project, PIP_EXIT=1)
    assert done.returncode == 1
    assert done.stderr.endswith('Error: pip could not install the packages; its last lines are above.\n')
    assert pip_installs(project) == 1 # no second step after a failed first

def test_an_upstream_that_cannot_be_had_ends_it_with_exit_code_2_and_one_sentence(project):
    done = run_install(project, '--upstream=submodule')
    assert done.returncode == 2
    assert done.stderr.startswith('Error: The submodule cannot be had: ')
    assert done.stderr.count('\n') == 1

#----------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize('kind', ['submodule', 'pypi'])
def test_a_fresh_copy_installs_from_nothing(tmp_path, kind):
    project = trees.Project(tmp_path / 'a project', reachable=trees.submodule_history() is not None)
    for name in ('pyproject.toml', 'requirements.txt', 'LICENSE'):
        shutil.copy(trees.ROOT / name, project.folder)
    done = subprocess.run(['bash', str(project.folder / 'install.sh'), f'--upstream={kind}'], cwd='/', check=False,
        capture_output=True, text=True,
        env=os.environ | dict(VIRTUAL_ENV='', GIT_CONFIG_GLOBAL=str(project.settings)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'unmodified apart from our patches' in done.stdout

#----------------------------------------------------------------------------
