"""Files about the project say the same as the project itself."""

import re

import sarigan_plugin
import trees

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

#----------------------------------------------------------------------------
