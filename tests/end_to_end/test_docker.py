"""The Dockerfile, looked at without Docker; the workflow builds it."""

import json
import re

import click
import pytest

import trees
from sarigan_plugin.cli import main

INSTRUCTIONS = ('ARG', 'FROM', 'RUN', 'WORKDIR', 'COPY', 'ENV', 'USER', 'VOLUME', 'ENTRYPOINT', 'CMD')

@pytest.fixture(scope='module')
def instructions():
    """[(instruction, what follows)], with lines that go on joined."""
    text = (trees.ROOT / 'Dockerfile').read_text(encoding='utf-8')
    lines = [line for line in text.splitlines() if not line.startswith('#')]
    joined = re.sub(r'\s*\\\n\s*', ' ', '\n'.join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]

def of(instructions, name):
    return [rest for instruction, rest in instructions if instruction == name]

def test_every_line_is_an_instruction_and_the_base_is_an_argument_with_a_version(instructions):
    assert {name for name, _rest in instructions} <= set(INSTRUCTIONS)
    assert instructions[0][0] == 'ARG' and re.fullmatch(r'BASE=\w+:\d+(\.\d+)*', instructions[0][1])
    assert instructions[1] == ('FROM', '${BASE}')
    assert re.search(r'BASE=nvidia/cuda:[\d.]+-runtime-ubuntu' + instructions[0][1].rpartition(':')[2],
        (trees.ROOT / 'Dockerfile').read_text()) # The same system with CUDA.

def test_what_is_copied_is_there_and_nothing_is_that_git_ignores(instructions):
    for rest in of(instructions, 'COPY'):
        *sources, _dest = rest.split()
        assert all((trees.ROOT / source).exists() for source in sources)
    left_out = set((trees.ROOT / '.dockerignore').read_text().splitlines())
    assert {'.git', '.venv', 'stylegan2-ada-pytorch', 'out', 'training-runs'} <= left_out

def test_packages_of_the_system_leave_no_lists_behind_and_shell_chains_stop_at_an_error(instructions):
    for rest in of(instructions, 'RUN'):
        assert ';' not in rest.replace('; then', '').replace('; fi', '')
        if 'apt-get install' in rest:
            assert 'apt-get update &&' in rest and '--no-install-recommends' in rest
            assert rest.endswith('rm -rf /var/lib/apt/lists/*')
        if 'pip install' in rest:
            assert rest.count('pip install') == rest.count('--no-cache-dir')

def test_it_installs_as_everybody_does_and_runs_the_demo_as_nobody(instructions):
    assert any('./install.sh --upstream=pypi' in rest for rest in of(instructions, 'RUN'))
    assert of(instructions, 'USER') == ['nobody']
    assert json.loads(of(instructions, 'ENTRYPOINT')[0]) == ['/opt/sarigan/.venv/bin/sarigan']
    name, *words = json.loads(of(instructions, 'CMD')[0])
    command = main.get_command(click.Context(main), name)
    assert name == 'demo' and command.make_context(name, words).params['outdir'] == of(instructions, 'VOLUME')[0]

def test_the_workflow_builds_and_runs_it():
    workflow = (trees.ROOT / '.github' / 'workflows' / 'ci.yml').read_text(encoding='utf-8')
    assert 'docker build --tag=sarigan .' in workflow and 'docker run --rm sarigan demo' in workflow
