"""`lookforward push`, against a stand-in for the hub on this machine."""

import base64
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from exports import make_export
from jobs import Command
from lookforward.runs.folder import MANIFEST

REPO = "someone/dog"


@dataclass
class Hub:
    """What it answers, and what it was sent. refuses: status by the last part of a path, "create" or "commit/main"."""

    address: str = ""
    refuses: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # paths, and the login that came with them
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        for part, status in self.refuses.items():
            if path.endswith(part):
                return status, {"error": f"no {part} for you"}
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return 200, {"url": f"{self.address}/{REPO}"}
        if path == f"/api/models/{REPO}/preupload/main":
            asked = json.loads(body)["files"]
            return 200, {
                "files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked]
            }
        if path == f"/api/models/{REPO}/commit/main":
            lines = [json.loads(line) for line in body.splitlines()]
            sent = [line["value"] for line in lines if line["key"] == "file"]
            self.files |= {one["path"]: base64.b64decode(one["content"]) for one in sent}
            return 200, {"commitUrl": f"{self.address}/{REPO}/commit/{'0' * 40}", "commitOid": "0" * 40}
        return (404, {"error": "no such repository"}) if path == f"/api/models/{REPO}" else (200, {})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            made.asked.append((self.path, self.headers.get("Authorization")))
            status, answer = made.answer(self.path, body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            if "error" in answer:
                self.send_header("X-Error-Message", answer["error"])
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.address = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", made.address)  # HF_ENDPOINT, which is read once
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def export(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_export(tmp_path_factory.mktemp("exports") / "dog", tiny_model, "lora")


@pytest.mark.parametrize("private", [False, True])
def test_an_export_arrives_file_by_file(private: bool, export: Path, hub: Hub, command_line: Command) -> None:
    words = ["push", export, "--repo", REPO, *(["--private"] if private else [])]
    status, out, err = command_line(*words)
    here = {str(path.relative_to(export)): path.read_bytes() for path in export.rglob("*") if path.is_file()}
    assert (status, err) == (0, "")
    assert out.endswith(f"Uploaded {len(here)} files to {hub.address}/{REPO}\n")
    assert hub.files == here
    assert {"README.md", MANIFEST, "pytorch_lora_weights.safetensors"} <= here.keys()
    assert [(one["organization"], one["name"], one.get("visibility")) for one in hub.created] == [
        ("someone", "dog", "private" if private else None)
    ]
    written = [login for path, login in hub.asked if path.endswith(("create", "commit/main"))]
    assert written == ["Bearer hf_secret"] * 2


def test_a_dry_run_sends_nothing_and_needs_no_login(
    export: Path, tiny_model: Path, hub: Hub, command_line: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    status, out, err = command_line("push", export, "--repo", REPO, "--dry-run")
    assert (status, err, hub.asked) == (0, "", [])
    assert "pytorch_lora_weights.safetensors" in out
    assert out.endswith(f"would go to {REPO}.\n")
    assert f"Note: lookforward.json in it has the path of the base model, {tiny_model}.\n" in out


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        ({"create": 401}, ["does not know you", "no create for you", "hf auth login"]),
        ({"create": 403}, [f"may not write to {REPO}", "no create for you"]),
        ({"commit/main": 403}, [f"may not write to {REPO}", "a token that may write"]),
        ({"commit/main": 413}, ["did not take", "The export is intact"]),
    ],
)
def test_what_the_hub_refuses(
    refuses: dict[str, int], said: list[str], export: Path, hub: Hub, command_line: Command
) -> None:
    hub.refuses = refuses
    status, _, err = command_line("push", export, "--repo", REPO)
    assert status == 2
    assert [words for words in said if words not in err] == [], err
    assert "hf_secret" not in err
    assert hub.files == {}


def test_without_a_login_or_a_network(
    export: Path, hub: Hub, command_line: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    status, _, err = command_line("push", export, "--repo", REPO)
    assert (status, f"http://127.0.0.1:{port} cannot be reached" in err) == (2, True), err
    monkeypatch.delenv("HF_TOKEN")
    status, _, err = command_line("push", export, "--repo", REPO)
    assert (status, "hf auth login" in err) == (2, True), err


def test_what_is_no_export_stays_here(
    export: Path, tiny_model: Path, tmp_path: Path, hub: Hub, command_line: Command
) -> None:
    (tmp_path / "photos").mkdir()
    for given, repo, said in (
        (tmp_path / "photos", REPO, "is not a run folder"),
        (tiny_model, REPO, "is a base model"),
        (export, "a/b/c", "OWNER/NAME"),
    ):
        status, _, err = command_line("push", given, "--repo", repo)
        assert (status, said in err) == (2, True), err
    assert hub.asked == []
