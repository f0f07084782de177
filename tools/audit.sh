#!/bin/sh
# Look up every locked package in the database of known vulnerabilities: pip-audit. A vulnerability fails, unless
# tools/audit-ignored.txt names it with a reason. Without a network, nothing can be looked up: a note says so, and it passes.
#
#     tools/audit.sh            the locks of all supported Pythons
set -u

cd "$(dirname "$0")/.."
report=$(mktemp) && log=$(mktemp) || exit 1
trap 'rm -f "$report" "$log"' EXIT

if ! tools/install.sh .venv audit >"$log" 2>&1; then
    echo "pip-audit skipped, since it cannot be installed here: $(tail -n 1 "$log")"
    exit 0
fi
set --
for id in $(sed 's/#.*//' tools/audit-ignored.txt); do
    set -- "$@" --ignore-vuln "$id"
done
for lock in locks/*-dev.txt; do
    : >"$report"
    # The lock is complete, so that nothing has to be resolved or downloaded
    if timeout 300 .venv/bin/pip-audit --requirement "$lock" --disable-pip --progress-spinner off "$@" \
        --format json --output "$report" >"$log" 2>&1; then
        echo "$lock: $(tail -n 1 "$log")"
    elif [ -s "$report" ]; then
        echo "$lock: $(tail -n 1 "$log")" >&2
        .venv/bin/python tools/vulnerable.py "$report" >&2
        exit 1
    else
        echo "pip-audit skipped, since it cannot look anything up here: $(tail -n 1 "$log")"
        exit 0
    fi
done
