#!/bin/sh
# Write locks/: what lookforward needs to run (python3.12.txt) and what its development needs (python3.12-dev.txt), for
# each supported Python, on Linux, macOS and Windows, with the hashes of all files. Versions are those of constraints.txt.
#
# UV  the uv to use (default: .venv/bin/uv, of the extra audit)
set -eu

cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
mkdir -p locks

compile() {
    # No host of an index is written, so that the files fit any mirror
    UV_NO_CONFIG=1 "$uv" pip compile pyproject.toml --quiet --universal --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links --constraint constraints.txt --python-version "$@"
}

for version in $(sed -n 's/.*Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml); do
    oldest=$version
    [ "$version" != 3.11 ] || oldest=3.11.5 # pymdown-extensions needs it
    compile "$oldest" --output-file "locks/python$version.txt"
    echo "hatchling hatch-vcs editables" | tr ' ' '\n' | # the build backend, as in install.sh
        compile "$oldest" --output-file "locks/python$version-dev.txt" \
            --extra dev --extra docs --extra benchmark --extra browser --extra audit -
done
