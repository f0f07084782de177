"""`python -m fuzz`: all groups, one after the other, and what was found; its exit status is 1 if something was."""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzz.common import GROUPS

HERE = Path(__file__).resolve().parents[2]
LIMITS = (
    "-timeout=60",
    "-report_slow_units=60",
    "-rss_limit_mb=6000",
    "-max_len=20000",
    "-verbosity=0",
    "-print_final_stats=1",
)


def main() -> int:
    asked = _parse()
    if importlib.util.find_spec("atheris") is None:
        print("The fuzzer is missing: pip install -r tests/fuzz/requirements.txt (Linux or macOS).", file=sys.stderr)
        return 2
    seconds = asked.seconds * asked.workers / len(asked.groups)
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-", dir=asked.memory) as own,
        ThreadPoolExecutor(asked.workers) as pool,
    ):
        ended = list(pool.map(lambda group: _run(group, max(1, round(seconds)), asked.folder, own), asked.groups))
    found = sorted(path for path in (asked.folder / "findings").glob("*") if path.suffix != ".txt")
    for path in found:
        print(path)
    print(f"{len(found)} findings, in {asked.folder / 'findings'}." if found else "Nothing was found.")
    return int(bool(found) or any(ended))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("groups", nargs="*", default=list(GROUPS), metavar="GROUP", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--seconds", type=float, default=600, help="in all (600)")
    parser.add_argument("--workers", type=int, default=2, help="groups at a time")
    parser.add_argument(
        "--folder", type=Path, default=HERE / ".fuzz", help="for findings, and inputs that found new code"
    )
    asked = parser.parse_args()
    if unknown := set(asked.groups) - set(GROUPS):
        parser.error(f"there is no group {', '.join(sorted(unknown))}")
    asked.memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    return asked


def _run(group: str, seconds: int, folder: Path, own: str) -> int:
    """One group, in a process of its own; returns its exit status."""
    grown = folder / group
    grown.mkdir(parents=True, exist_ok=True)
    findings = folder / "findings"
    findings.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": own, "OMP_NUM_THREADS": "1", "DIFFUSERS_VERBOSITY": "error"}
    environment |= {"TRANSFORMERS_VERBOSITY": "error", "LOOKFORWARD_CACHE": own}
    options = [*LIMITS, f"-max_total_time={seconds}", f"-artifact_prefix={findings / group}-", str(grown)]
    command = [sys.executable, "-m", "fuzz.child", group, str(findings), *options]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    (folder / f"{group}.log").write_text(done.stdout, errors="backslashreplace")
    told = [
        line for line in done.stdout.splitlines() if line.startswith(("FINDING", "==", "stat::number", "stat::new"))
    ]
    print(
        f"{group}, {seconds} s:",
        *told,
        *(done.stdout.splitlines()[-12:] if done.returncode else ()),
        sep="\n  ",
        flush=True,
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
