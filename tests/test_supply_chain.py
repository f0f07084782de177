"""What is installed is known: locks with hashes that agree with the constraints, and an audit."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "locks").glob("*.txt"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([^ ;\\\n]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return {plain(name): version for name, version in found}


def names(requirements: list[str]) -> set[str]:
    return {plain(re.split(r"[\[>=<~! ;]", one)[0]) for one in requirements}


CONSTRAINTS = pins(ROOT / "constraints.txt")


def test_every_supported_python_has_its_locks() -> None:
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert [path.name for path in LOCKS] == sorted(f"python{v}{kind}.txt" for v in versions for kind in ("", "-dev"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_locks_agree_with_the_constraints_and_have_hashes(lock: Path) -> None:
    text, found = lock.read_text(encoding="utf-8"), pins(lock)
    differ = {name: (version, CONSTRAINTS[name]) for name, version in found.items() if name in CONSTRAINTS}
    assert {name: both for name, both in differ.items() if both[0] != both[1]} == {}, "run `make lock`"
    wanted = names(PROJECT["dependencies"])
    if lock.stem.endswith("-dev"):
        extras = PROJECT["optional-dependencies"]
        wanted = set(CONSTRAINTS) | wanted.union(
            *(names(extras[one]) for one in ("dev", "docs", "benchmark", "browser", "audit"))
        )
    assert wanted - found.keys() == set(), "run `make lock`"
    for entry in re.split(r"\n(?=\S)", text.strip()):
        name = plain(entry.split("==")[0])
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
        assert name in CONSTRAINTS or ";" in entry.splitlines()[0] or name == "pip", f"{name} is not in constraints.txt"
    assert "://" not in text
    assert "--index" not in text


def test_constraints_meet_what_the_project_asks_for() -> None:
    for group in (PROJECT["dependencies"], *(PROJECT["optional-dependencies"][x] for x in ("dev", "docs", "audit"))):
        for one in group:
            name, least = re.split(r">=", one)
            pinned = CONSTRAINTS[plain(re.split(r"\[", name)[0])]
            as_numbers = [[int(n) for n in re.findall(r"\d+", version)] for version in (least, pinned)]
            assert as_numbers[0] <= as_numbers[1], one


@pytest.mark.parametrize(
    ("report", "status", "facts"),
    [
        ('{"dependencies": []}', 0, ["No known"]),
        (
            '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}]}',
            1,
            ["a 1: CVE-1, fixed in 2"],
        ),
        ("", 0, ["skipped", "no route"]),
    ],
    ids=["clean", "vulnerable", "offline"],
)
def test_the_audit_fails_for_vulnerabilities_and_not_for_the_network(
    report: str, status: int, facts: list[str], tmp_path: Path
) -> None:
    for name in ("audit.sh", "vulnerable.py"):
        (tmp_path / "tools").mkdir(exist_ok=True)
        shutil.copy(ROOT / "tools" / name, tmp_path / "tools" / name)
    (tmp_path / "tools" / "audit-ignored.txt").write_text("# none\nCVE-7  # it concerns another system\n")
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "python3.12-dev.txt").write_text("a==1\n")
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    vulnerable = bool(report) and bool(json.loads(report)["dependencies"])
    said = "No known vulnerabilities" if report and not vulnerable else "no route to host"
    script = (
        f'case "$*" in *CVE-7*) ;; *) exit 9;; esac; eval out=\\${{$#}}; printf %s \'{report}\' >"$out"; echo "{said}"'
    )
    for path, body in (
        (tmp_path / "tools" / "install.sh", "exit 0"),
        (folder / "pip-audit", f"{script}; exit {int(vulnerable or not report)}"),
        (folder / "python", f'exec "{shutil.which("python3")}" "$@"'),
    ):
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    done = subprocess.run(
        ["sh", "tools/audit.sh"], cwd=tmp_path, env={**os.environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert [fact for fact in facts if fact not in done.stdout + done.stderr] == []
