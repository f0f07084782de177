#!/bin/sh
# Create or complete a virtual environment with the exact packages of constraints.txt, and lookforward and
# Toybox in editable mode. `make` calls it; so can you:
#
#     tools/install.sh .venv            what lookforward needs to run
#     tools/install.sh .venv dev,docs   the same and the extras named
#
# PYTHON       the interpreter that creates the environment (default: python3)
# LOCKED       1: install everything that locks/ lists for development, and check the hash of every file
# TORCH_INDEX  the package index to take torch from, for another build than the one chosen below,
#              for instance https://download.pytorch.org/whl/cu130
#
# Which torch. On PyPI, torch for Linux is the CUDA build: gigabytes that a machine without an NVIDIA GPU
# cannot use. So, in this order:
#   1. TORCH_INDEX is given: from there.
#   2. not Linux, or `nvidia-smi` finds a GPU: the plain release from the configured index.
#   3. Linux without a GPU: the build `+cpu` from the configured index, if that has it (PyPI has not; the
#      question costs one small page); otherwise from PyTorch's own CPU index.
# torch comes first and alone (--no-deps); its dependencies follow with everything else, from the configured
# index. To change an existing environment to another build, remove the environment first.
set -eu

cd "$(dirname "$0")/.."
venv=${1:?usage: tools/install.sh VENV [EXTRA,EXTRA]}
extras=${2:-}
python=${PYTHON:-python3}
torch=$(sed -n 's/^torch==//p' constraints.txt)

fail() {
    echo "$*" >&2
    exit 1
}

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if ! recent "$venv/bin/python"; then
    command -v "$python" >/dev/null || fail "'$python' was not found. Install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3.11"
    recent "$python" || fail "'$python' is $("$python" --version 2>&1); lookforward needs Python 3.11 or newer. Name one: make PYTHON=python3.11"
    "$python" -m venv --clear "$venv" || fail "Could not create $venv. On Debian and Ubuntu: apt install python3-venv"
fi

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
pip --version >/dev/null || fail "$venv has no working pip; remove it and try again."

installed=$("$venv/bin/python" -c '
from importlib.metadata import PackageNotFoundError, version
try:
    print(version("torch"))
except PackageNotFoundError:
    pass')

case $installed in
    "$torch" | "$torch"+*) ;;
    *)
        if [ -n "${LOCKED:-}" ] && { [ "$(uname -s)" != Linux ] || nvidia-smi -L >/dev/null 2>&1; }; then
            : # the lock has it
        elif [ -n "${TORCH_INDEX:-}" ]; then
            pip install --no-deps --index-url "$TORCH_INDEX" "torch==$torch"
        elif [ "$(uname -s)" != Linux ] || nvidia-smi -L >/dev/null 2>&1; then
            pip install --no-deps "torch==$torch"
        else
            problem=$(mktemp)
            trap 'rm -f "$problem"' EXIT
            if ! pip install --no-deps "torch==$torch+cpu" 2>"$problem"; then
                grep -qE 'No matching distribution|ResolutionImpossible' "$problem" || fail "$(cat "$problem")"
                pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "torch==$torch+cpu" ||
                    fail "The CPU build of torch could not be had. Name an index that has torch $torch for this Python: make TORCH_INDEX=https://..."
            fi
        fi
        ;;
esac

if [ -n "${LOCKED:-}" ]; then
    version=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    lock=locks/python$version-dev.txt
    [ -f "$lock" ] || fail "There is no $lock: use one of the Pythons that locks/ has, or leave LOCKED out."
    wanted=$(mktemp)
    trap 'rm -f "${problem:-}" "$wanted"' EXIT
    # The CPU build of torch is there already, of another index, and needs none of CUDA's packages
    case $("$venv/bin/python" -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null) in
        *+cpu) awk '/^[^ ]/ { skip = /^(nvidia-|cuda-|triton==|torch==)/ } !skip' "$lock" >"$wanted" ;;
        *) cp "$lock" "$wanted" ;;
    esac
    pip install --quiet --no-deps --require-hashes --requirement "$wanted"
fi

# The build backend is pinned too, hence no isolated build environment. lookforward and Toybox, which is a distribution of
# its own in the folder toybox, are installed together: they are of one version.
pip install --quiet --constraint constraints.txt hatchling hatch-vcs editables
pip install --quiet --constraint constraints.txt --no-build-isolation \
    --editable ".${extras:+[$extras]}" --editable ./toybox
