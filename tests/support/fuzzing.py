"""What to type and write into files at random."""

from hypothesis import HealthCheck, settings, strategies as st

# Options of the command line, with values that are right, nearly right and wrong.
NUMBERS = st.one_of(st.integers(-3, 2000), st.floats(allow_nan=True),
    st.sampled_from(['', '1e9', '-0', '٣', '0x10', '1_000', '9' * 30]))

TEXTS = st.one_of(st.text(max_size=12), st.sampled_from(['auto', 'none', 'latest', 'noresume', '/', '..', '../..',
    '/dev/null', '/etc/passwd', 'similarity', 'a,b', 'x' * 300, '\x00', '\n']))

# Values of a TOML file.
VALUES = st.recursive(st.one_of(st.booleans(), st.integers(-10, 10 ** 6), st.floats(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3), max_leaves=4)

def fuzz(cases):
    return settings(max_examples=cases, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck))
