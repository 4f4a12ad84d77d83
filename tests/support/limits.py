"""How long a test waits for what must happen: the end of a hang, not a measure of speed.

Set SARIGAN_TEST_PATIENCE=5 to wait five times as long, as on a machine that is much slower or very busy.
"""

import os
import time

HANG = 600 * float(os.environ.get('SARIGAN_TEST_PATIENCE', '1')) # Seconds. Nothing here takes a tenth of it.

def wait_until(condition, awaited, pause=0.05):
    """The first true result of condition(); a failure that names what was awaited if none comes."""
    end = time.monotonic() + HANG
    while not (result := condition()):
        assert time.monotonic() < end, f'waited {HANG:.0f} seconds in vain for {awaited}'
        time.sleep(pause)
    return result
