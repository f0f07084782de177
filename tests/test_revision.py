"""A model on the hub at a revision of its own: loaded, recorded with its commit, and pinned in what is exported."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import RevisionNotFoundError

from conftest import make_pipeline
from errors import raises
from jobs import SETTINGS
from lookforward import personalize
from lookforward.exports.card import loading_code
from lookforward.exports.load import build_base, model_hash, read_manifest
from lookforward.exports.source import find_source
from lookforward.models.families import family_of_index
from lookforward.models.load_pipeline import load_pipeline
from lookforward.models.weight_files import hub_commit

OLD, NEW = "a" * 40, "b" * 40
NAME = "somebody/tiny"


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in the download cache with an old commit, tagged v1, and other weights on the main branch."""
    cache = tmp_path / "hub"
    repository = cache / "models--somebody--tiny"
    shutil.copytree(tiny_model, repository / "snapshots" / OLD)
    make_pipeline(seed=5).save_pretrained(repository / "snapshots" / NEW)
    (repository / "refs").mkdir()
    for name, commit in (("main", NEW), ("v1", OLD)):
        (repository / "refs" / name).write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))

    def offline(*_: Any, **__: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", offline)
    family_of_index.cache_clear()
    return cache


def test_a_revision_is_loaded_recorded_and_pinned(hub: Path, tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"run.steps": 2, "evaluation.sample_every": 0, "adapter.name": "lora"}
    run = personalize(photos, "teapot", model=NAME, revision="v1", output=tmp_path / "run", settings=settings).run
    old, new = (model_hash(load_pipeline(NAME, revision=commit)) for commit in (OLD, "main"))
    assert old == model_hash(load_pipeline(tiny_model)) != new
    recorded = json.loads((run.folder / "model.json").read_text())
    assert recorded == {"name": NAME, "revision": "v1", "commit": OLD, "hash": old}
    manifest = read_manifest(run.export)
    assert (manifest["model_commit"], manifest["model_hash"]) == (OLD, old)
    assert OLD in (run.export / "README.md").read_text()
    assert f'"{NAME}", revision="{OLD}"' in "\n".join(loading_code(manifest, "a dog", 0))
    # The tag moves on, and the export stays where it was
    (hub / "models--somebody--tiny" / "refs" / "v1").write_text(NEW)
    assert model_hash(build_base(manifest)) == old
    with raises("model-changed"):
        build_base({**manifest, "model_commit": ""})
    assert (hub_commit(NAME), hub_commit(NAME, OLD), hub_commit(str(tiny_model))) == (NEW, OLD, "")
    plain = find_source(NAME, OLD).load()
    assert model_hash(plain) == old


def test_what_has_no_revision_is_refused(
    hub: Path, tiny_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with raises("revision-unused", "v1"):
        personalize(photos, "teapot", model=str(tiny_model), revision="v1", output=tmp_path / "run", settings=SETTINGS)
    with raises("revision-unused"):
        find_source(tiny_model, "v1")

    def unknown(*_: Any, **__: Any) -> Any:
        request = SimpleNamespace(method="GET", url="somewhere")
        response: Any = SimpleNamespace(headers={}, status_code=404, request=request, url="somewhere", text="")
        raise RevisionNotFoundError("404: no such revision", response=response)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unknown)
    with raises("model-revision", NAME, "branch"):
        load_pipeline(NAME, revision="v9")
