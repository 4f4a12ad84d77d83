"""Files about the project say the same as the project itself."""

import json
import re
import shlex
import subprocess

import sarigan_plugin
import trees
from sarigan_plugin import cli

def read(name):
    return (trees.ROOT / name).read_text(encoding='utf-8')

def test_the_version_is_the_same_everywhere():
    assert f'\nversion: {sarigan_plugin.__version__}\n' in read('CITATION.cff')
    assert f'\n## [{sarigan_plugin.__version__}] - ' in read('CHANGELOG.md')

def test_the_workflow_tests_from_the_oldest_python_on_by_what_everybody_can_run():
    workflow = read('.github/workflows/ci.yml')
    versions = re.search(r'python-version: \[(.*)\]', workflow)[1].replace('"', '').split(', ')
    assert versions == [f'3.{minor}' for minor in range(10, 14)]
    assert f'requires-python = ">={versions[0]}"' in read('pyproject.toml')
    jobs = set(re.findall(r'^    (\w+)\) ', read('.ci/run'), flags=re.M))
    assert set(re.findall(r'\.ci/run (\w+)', workflow)) <= jobs

def test_the_packages_of_developers_are_pinned():
    extra = re.search(r'^dev = \[\n(.*?)^\]', read('pyproject.toml'), flags=re.M | re.S)[1]
    names = re.findall(r'^    "([\w-]+)', extra, flags=re.M)
    assert {'ruff', 'mypy', 'pytest'} <= set(names)
    assert set(names) <= set(re.findall(r'^([\w-]+)==', read('requirements.txt'), flags=re.M))

def test_a_bug_report_asks_what_the_doctor_says():
    assert 'sarigan doctor --json' in read('.github/ISSUE_TEMPLATE/bug_report.yml')

def test_the_dockerfile_is_made_of_instructions_that_docker_knows_and_runs_shell_that_parses():
    lines = [line for line in read('Dockerfile').splitlines() if line and not line.startswith('#')]
    instructions = [line.split(maxsplit=1) for line in '\n'.join(lines).replace('\\\n', '').splitlines()]
    names = [name for name, _rest in instructions]
    assert set(names) <= {'ARG', 'FROM', 'ENV', 'RUN', 'WORKDIR', 'COPY', 'CMD'}
    assert names[:2] == ['ARG', 'FROM'] and names[-1] == 'CMD'
    for name, rest in instructions:
        if name == 'RUN':
            subprocess.run(['bash', '-n', '-c', rest], check=True)
            for word in shlex.split(rest):
                assert not word.startswith('./') or (trees.ROOT / word).is_file()

def test_the_container_runs_a_command_that_there_is():
    command = json.loads(re.search(r'^CMD (.*)$', read('Dockerfile'), flags=re.M)[1])
    assert command[0] == 'sarigan'
    cli.main.get_command(None, command[1]).make_context(command[1], command[2:])

#----------------------------------------------------------------------------
