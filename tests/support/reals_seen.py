"""Print a hash of the real images of each iteration of an ablation's first trainings:

    python reals_seen.py TOML DATA OUTDIR COUNT

{"row, seed 0": [hash of the first batch, ...], ...} as JSON on the last line.
"""

import hashlib
import json
import sys

from sarigan_plugin.ablation import table_spec
from sarigan_plugin.trainer import launch, progress

from torch_utils import training_stats

def main(toml, data, outdir, count):
    hashes = dict()
    accumulate_gradients = progress.MonitoredLoss.accumulate_gradients
    def recorded(self, phase, real_img, **kwargs):
        if phase == 'Dmain':
            hashes.setdefault(training.name, []).append(hashlib.sha256(real_img.numpy().tobytes()).hexdigest())
        accumulate_gradients(self, phase=phase, real_img=real_img, **kwargs)
    progress.MonitoredLoss.accumulate_gradients = recorded
    for training in table_spec.plan(table_spec.read(toml), data, outdir)[:int(count)]:
        training_stats._sync_called = False # Upstream has one training in a process.
        assert launch.launch(training.args, 'cpu') == 0
    print()
    print(json.dumps(hashes))

main(*sys.argv[1:])
