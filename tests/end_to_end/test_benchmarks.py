"""The benchmarks run, compare what they say, and know their options. What they measure is no test's business."""

import json

import pytest
import torch
from click.testing import CliRunner

import commands
import skips
import trees

SMALL = ['--settings=16:4', '--channel-base=256', '--channel-max=16', '--rounds=1']

def benchmark(name, *arguments):
    return commands.finished(commands.start(trees.ROOT / 'benchmarks' / name, *arguments))

@pytest.mark.parametrize('sides', [['sarigan-g4'], pytest.param(['upstream', 'sarigan-g4'], marks=pytest.mark.slow)])
def test_all_sides_are_measured_and_compared(tmp_path, sides):
    done = benchmark('speed.py', *SMALL, f'--sides={",".join(sides)}', '--measures=Gmain,Dreg', '--device=cpu',
        f'--outdir={tmp_path}')
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / 'speed.json').read_text())['rows']
    assert [(row['measure'], row['side']) for row in rows] == [(measure, side) for measure in ['Gmain', 'Dreg']
        for side in sides]
    assert all(row[kind] > 0 for row in rows for kind in ['wall', 'cpu', 'memory'])
    assert all(row['ratios']['cpu'] == pytest.approx(row['cpu'] / rows[index // len(sides) * len(sides)]['cpu'])
        for index, row in enumerate(rows))
    if len(sides) > 1: # It shows how they compare.
        assert (tmp_path / 'speed.png').read_bytes().startswith(b'\x89PNG')

@pytest.mark.parametrize('arguments, code, said', [(['--help'], 0, 'speed.py starts it'),
    (['{}'], 2, "Missing argument 'CONNECTION'"), (['{', '3'], 2, "Invalid value for 'SETTINGS'")])
def test_a_side_by_itself_says_what_it_is_for(monkeypatch, arguments, code, said):
    monkeypatch.syspath_prepend(trees.ROOT / 'benchmarks')
    import side
    result = CliRunner().invoke(side.main, arguments)
    assert result.exit_code == code and said in result.output

@pytest.mark.slow
def test_a_side_that_cannot_start_says_why(tmp_path):
    done = benchmark('speed.py', *SMALL, '--sides=upstream,sarigan-g64', '--measures=inference,fused inference',
        '--device=cpu', f'--outdir={tmp_path}')
    # What a side says when it can't start.
    assert done.returncode == 1 and 'num_groups must be between 1 and the 16 channels' in done.stderr

@pytest.mark.slow
def test_processes_that_train_together_are_compared_as_well(tmp_path):
    done = benchmark('speed.py', *SMALL, '--sides=upstream,sarigan-g4', '--gpus=2', '--device=cpu',
        f'--outdir={tmp_path}')
    assert done.returncode == 0, done.stderr
    assert [row['measure'] for row in json.loads((tmp_path / 'speed.json').read_text())['rows']] == ['cycle', 'cycle']

@pytest.mark.slow
def test_the_floor_is_below_what_was_taken(tmp_path):
    done = benchmark('floor.py', '--setting=32:4', f'--outdir={tmp_path}', '--device=cpu')
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / 'floor.json').read_text())['rows']
    assert [row['phase'] for row in rows] == ['Gmain', 'Greg', 'Dmain', 'Dreg']
    assert all(0 < row['arithmetic'] < row['taken'] for row in rows)

def test_what_a_gpu_would_be_asked_for_is_counted_on_both_sides(tmp_path):
    done = benchmark('counts.py', '--settings=32:4', f'--outdir={tmp_path}')
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / 'counts.json').read_text())['rows']
    assert [(row['measure'], row['side']) for row in rows] == [(measure, side)
        for measure in ['Gmain', 'Greg', 'Dmain', 'Dreg', 'iteration'] for side in ['upstream', 'sarigan']]
    # The same convolutions; what groups add is small.
    assert all(row['ratios']['flops'] == pytest.approx(1, abs=0.02) for row in rows)
    # No kernels for each sample in G's step.
    assert rows[1]['ratios']['bytes'] < 0.9 and rows[1]['ratios']['memory'] < 1
    assert (tmp_path / 'counts.png').read_bytes().startswith(b'\x89PNG')

def test_counts_are_those_of_a_convolution_and_what_follows(monkeypatch):
    monkeypatch.syspath_prepend(trees.ROOT / 'benchmarks')
    from floor import Counter
    x, w = torch.empty(2, 3, 8, 8, device='meta'), torch.empty(5, 3, 3, 3, device='meta')
    made = 2 * 5 * 8 * 8
    with Counter(convolutions_move=True) as counter:
        y = torch.nn.functional.conv2d(x, w, padding=1)
        y = (y + 1).view(-1) # The result of the convolution goes when there is its sum: both are there at once.
        del y
    assert (counter.kernels, counter.flops) == (2, 2 * made * 3 * 3 * 3)
    assert counter.bytes == 4 * (x.numel() + w.numel() + made + 2 * made)
    assert (counter.memory, counter.held) == (4 * 2 * made, {})
    with Counter() as counter:
        torch.nn.functional.conv2d(x, w, padding=1)
    assert counter.bytes == 0

def test_convolutions_are_compared_with_pytorchs(tmp_path):
    done = benchmark('convolutions.py', '--shapes=1:8:8,2:4:4', '--rounds=1', f'--outdir={tmp_path}')
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / 'convolutions.json').read_text())['rows']
    assert [row['shape'] for row in rows] == [[1, 8, 8], [2, 4, 4]]
    assert all(ratio == pytest.approx(row['seconds']['ours'][measure] / row['seconds']['pytorch'][measure])
        for row in rows for measure, ratio in row['ratios'].items())
    assert all(0 < rounding < 1e-4 for row in rows for rounding in row['rounding'].values())

@pytest.mark.slow
def test_loading_is_measured(tmp_path):
    done = benchmark('loading.py', '--resolutions=16,64', '--workers=1', '--seconds=0.5', f'--outdir={tmp_path}')
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / 'loading.json').read_text())['rows']
    assert [row['resolution'] for row in rows] == [16, 64] and all(row['images_per_second'] > 0 for row in rows)

@pytest.mark.slow
def test_making_data_sets_is_measured_beside_upstreams_tool(tmp_path):
    done = benchmark('data_folder.py', '--pictures=60', '--workers=1,2', '--rounds=1', f'--outdir={tmp_path}')
    assert done.returncode == 0, done.stderr # It compares what both sides made.
    rows = json.loads((tmp_path / 'data_folder.json').read_text())['rows']
    assert [row['side'] for row in rows] == ['upstream', '1 worker', '2 workers'] and rows[0]['ratios'] == dict(wall=1,
        cpu=1)
    assert all(row['pictures_per_second'] > 0 and row['cpu'] > 0 for row in rows)

@pytest.mark.slow
def test_a_published_page_is_measured_in_a_browser_and_compared_with_pytorch(network, tmp_path):
    done = benchmark('publish.py', f'--network={network}', f'--outdir={tmp_path}')
    if 'No Chromium was found' in done.stderr:
        pytest.skip(skips.NO_CHROMIUM)
    if 'onnxruntime-web' in done.stderr:
        pytest.skip(skips.NO_ONNX_RUNTIME)
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / 'publish.json').read_text())
    assert len(row['first']) == 5 and len(row['steps']) == 30 and min(row['first'] + row['steps']) > 0
    assert len(row['differences']) == 20 and max(row['differences']) <= 1

@pytest.mark.slow
def test_the_page_is_measured_in_a_browser(tmp_path):
    done = benchmark('explore.py', '--resolutions=16', f'--outdir={tmp_path}')
    if 'No Chromium was found' in done.stderr:
        pytest.skip(skips.NO_CHROMIUM)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / 'explore.json').read_text())
    assert [row['network'] for row in rows] == ['untrained tiny, 16x16', 'untrained tiny-inpaint, 16x16']
    assert all(len(row['first']) == 5 and len(row['steps']) == 30 and min(row['first'] + row['steps']) > 0
        for row in rows)

@pytest.mark.parametrize('arguments, says', [
    (['--settings=64'], "'64' is not a list such as 64:8,128:4"),
    (['--settings=60:8'], "'60:8' is not a list such as 64:8,128:4"),
    (['--sides=upstream,ours'], "'upstream,ours' is not a list such as upstream,sarigan"),
    (['--measures=epoch'], "'epoch' is not a list such as cycle,inference"),
])
def test_what_the_benchmark_does_not_know_is_named(arguments, says, tmp_path):
    done = benchmark('speed.py', *arguments, f'--outdir={tmp_path / "out"}')
    assert done.returncode == 2 and says in done.stderr
    assert not (tmp_path / 'out').exists()

#----------------------------------------------------------------------------
