"""Why tests may skip themselves.

CONTRIBUTING.md says of each what shows the same without; any other reason fails the test.
"""

import pytest

NO_SUBMODULE    = "upstream's own repository is not here: ./install.sh --upstream=submodule fetches it"
NO_PACKAGES     = "the packages that upstream's tree is assembled from cannot be downloaded"
NO_CHROMIUM     = 'no Chromium was found; apt-get install chromium'
NO_ARCHIVES     = 'the archives of `sarigan data` are neither in the download cache nor to be had'
NO_ONNX_RUNTIME = 'onnxruntime-web is neither in the download cache nor to be had'
NO_STYLEGAN3    = 'SARIGAN_STYLEGAN3 does not name a checkout of NVlabs/stylegan3'
NO_CHECKOUT     = 'its environment variable does not name a checkout of that tool'
NO_CUDA         = 'no CUDA device'
NO_NVCC         = 'no CUDA plugins'
HAS_CUDA        = 'this machine has CUDA'
HAS_NVCC        = 'the CUDA plugins can be built on this machine'
NO_COMPILER     = 'there is no C++ compiler'
NO_PROC         = 'needs Linux to know what memory is in use'
NO_TRITON       = 'Triton is not installed; PyTorch for CUDA on Linux brings it along'

REASONS = [value for name, value in list(globals().items()) if name.isupper()]

#----------------------------------------------------------------------------
# Hooks of pytest.

def refuse_others(report):
    if report.skipped and not hasattr(report, 'wasxfail'):
        reason = report.longrepr[2].removeprefix('Skipped: ')
        if reason not in REASONS:
            report.outcome, report.longrepr = ('failed',
                f'skipped for a reason that tests/support/skips.py and CONTRIBUTING.md do not list: {reason}')
    return report

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return refuse_others((yield))

@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return refuse_others((yield))

#----------------------------------------------------------------------------
