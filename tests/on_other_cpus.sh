#!/usr/bin/env bash
# Run tests as other machines would: with the kernels of older and newer CPUs, and with every core busy.
#
#   tests/on_other_cpus.sh kernels          # the files that compare numbers
#   tests/on_other_cpus.sh busy             # the files that wait for something
#   tests/on_other_cpus.sh kernels tests    # all; what follows goes to pytest
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

job=${1:-}
shift
if (($# == 0)); then
    case $job in
        kernels) mapfile -t arguments < <(grep -rlE --include='test_*.py' 'rounding|assert_close|assert_allclose|approx\(' tests) ;;
        busy)    mapfile -t arguments < <(grep -rlE --include='test_*.py' 'limits\.|commands\.s|started\(|Popen\(' tests) ;;
    esac
else
    arguments=("$@")
fi

failed=()
run() { # run NAME [VARIABLE=VALUE]...
    printf '\n=== %s\n' "$1"
    env OMP_NUM_THREADS=1 "${@:2}" "${VIRTUAL_ENV:-.venv}/bin/python" -m pytest --quiet --numprocesses=2 --dist=worksteal "${arguments[@]}" || failed+=("$1")
}

case $job in
    kernels) # oneDNN's, PyTorch's own, MKL's and OpenBLAS's. What a CPU lacks is left out without a word.
        run "SSE 4.1"           ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Nehalem
        run "AVX2"              ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=AVX2 OPENBLAS_CORETYPE=Haswell
        run "AVX-512"           ONEDNN_MAX_CPU_ISA=AVX512_CORE ATEN_CPU_CAPABILITY=avx512
        run "all that is here" ;;
    busy)
        for _loop in $(seq "$((2 * $(nproc)))"); do
            (while :; do :; done) &
        done
        trap 'kill $(jobs -p)' EXIT
        run "busy cores" ;;
    *)
        echo "Usage: tests/on_other_cpus.sh kernels | busy [PYTEST ARGUMENTS]" >&2
        exit 2 ;;
esac
((${#failed[@]} == 0)) || { printf '\nFailed: %s\n' "${failed[*]}" >&2; exit 1; }
