"""What training reports about groups, and when; the progress bar."""

import io
import re

import pytest
import torch

from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.trainer import group_statistics, progress

from torch_utils import training_stats

class Terminal(io.StringIO):
    def isatty(self):
        return True

#----------------------------------------------------------------------------

@pytest.mark.parametrize('batch, total, per_tick', [(8, 1, 4), (32, 10, 4), (48, 7, 1), (4000, 20, 4), (7, 3, 1)])
def test_clock_ends_ticks_when_upstreams_loop_does(batch, total, per_tick):
    ours, theirs = [], []
    clock = progress.TickClock(batch, total, per_tick)
    nimg = tick = tick_start = 0
    while True: # The bookkeeping of training_loop.py, lines 300-314 and 391-394.
        ours.append(clock.iteration_ends_tick())
        nimg += batch
        done = nimg >= total * 1000
        theirs.append(done or tick == 0 or nimg >= tick_start + per_tick * 1000)
        if theirs[-1]:
            tick, tick_start = tick + 1, nimg
        if done:
            break
    assert ours == theirs

def test_group_statistics_describe_each_layer(make_generator):
    G = make_generator()
    statistics = group_statistics.GroupStatistics(G.synthesis)
    name, layer, _source = grouped_layers(G.synthesis)[0]
    with torch.no_grad(): # 16 channels: 10 in group 0, 5 in group 1, 1 in group 3; group 2 is empty.
        layer.grouping.logits.zero_()
        for channel, group in enumerate([0] * 10 + [1] * 5 + [3]):
            layer.grouping.logits[channel, group] = 1
    before = statistics.previous[name]
    collector = training_stats.Collector(regex='Grouping/.*')
    statistics.report()
    collector.update()
    prefix = f'Grouping/{name}/'
    assert collector.mean(prefix + 'used_groups') == 3
    assert [collector.mean(prefix + f'size_{which}') for which in ['min', 'median', 'max']] == [0, 1, 10]
    assert collector.mean(prefix + 'churn') == pytest.approx(
        (before != layer.grouping.assignment).float().mean().item())
    assert collector.mean(prefix + 'temperature') == pytest.approx(0.3, rel=1e-5)
    statistics.report() # Nothing has moved since.
    collector.update()
    assert collector.mean(prefix + 'churn') == 0

def test_number_of_groups_is_told_where_groups_merge(make_generator):
    G = make_generator(num_groups='auto')
    statistics = group_statistics.GroupStatistics(G.synthesis)
    assert statistics.report() is None
    grouped_layers(G.synthesis)[1][1].grouping.merged_into[[2, 5]] = 0
    collector = training_stats.Collector(regex='Grouping/.*')
    assert statistics.report() == {'b8.conv0': 8, 'b8.conv1': 6, 'b16.conv0': 8, 'b16.conv1': 8,
        'b32.conv0': 8, 'b32.conv1': 4}
    collector.update()
    assert collector.mean('Grouping/b8.conv1/num_groups') == 6
    assert statistics.report() is None

def test_networks_without_learned_groups_have_fewer_statistics_or_none(make_generator):
    collector = training_stats.Collector(regex='Grouping/.*')
    collector.update()
    group_statistics.GroupStatistics(make_generator(grouping='none').synthesis).report()
    collector.update()
    assert all(collector.num(name) == 0 for name in collector.names())
    group_statistics.GroupStatistics(make_generator(grouping='blocks').synthesis).report()
    collector.update()
    assert collector.mean('Grouping/b8.conv0/size_median') == 4
    assert collector.num('Grouping/b8.conv0/temperature') == 0

#----------------------------------------------------------------------------

def test_bar_shows_images_rate_and_losses_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr('sys.__stderr__', terminal)
    bar = progress.ProgressBar(2000)
    for _ in range(10):
        bar.advance(100)
    training_stats.report('Loss/G/loss', [])
    collector = training_stats.Collector(regex='Loss/G/loss')
    training_stats.report('Loss/G/loss', torch.tensor([1.25]))
    collector.update()
    bar.show(collector)
    bar.advance(100)
    shown = re.sub(r'\x1b\[[^A-Za-z]*[A-Za-z]', '', terminal.getvalue()).split('\r')[-1]
    assert re.search(r'Training .* 1\.1 kimg \d+ img/s G 1\.25', shown), shown

def test_bar_counts_seconds_where_training_is_limited_in_time(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr('sys.__stderr__', terminal)
    bar = progress.ProgressBar(10 ** 9, minutes=5)
    bar.advance(100)
    bar.start_time -= 60
    bar.advance(100)
    assert bar.bar.pos == 60 and bar.bar.length == 300

def test_no_bar_where_stderr_is_a_file(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr('sys.__stderr__', stream)
    bar = progress.ProgressBar(1000)
    bar.advance(500)
    assert stream.getvalue() == ''

def test_lines_of_text_wipe_the_bar_but_not_themselves():
    terminal = Terminal()
    stream = progress._ClearedLine(terminal, terminal)
    print('tick', 3, file=stream) # print() writes a line in parts.
    print('tick', 4, file=stream)
    assert terminal.getvalue() == '\r\x1b[Ktick 3\n\r\x1b[Ktick 4\n'

def test_cursor_is_shown_again_on_a_terminal_only(monkeypatch):
    for stream, expected in [(Terminal(), '\x1b[?25h'), (io.StringIO(), '')]:
        monkeypatch.setattr('sys.__stderr__', stream)
        progress.restore_terminal()
        assert stream.getvalue() == expected

#----------------------------------------------------------------------------
