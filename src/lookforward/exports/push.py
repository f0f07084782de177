"""Upload an export to a model hub, by huggingface_hub and its own login."""

from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from lookforward.errors import LookforwardError
from lookforward.exports.source import Source


def files_of(source: Source, repo: str) -> list[tuple[str, int]]:
    """What `push` would upload: the name of each file within the export, and its bytes.

    Raises:
        LookforwardError: it is no export, or the hub has no such names of repositories.
    """
    folder = source.require_export()
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise LookforwardError(f"{repo!r} cannot be the name of a repository: give OWNER/NAME.", "hub-name") from error
    return sorted((str(path.relative_to(folder)), path.stat().st_size) for path in _files(folder))


def notes_on_privacy(source: Source) -> tuple[str, ...]:
    """What the export says of this computer."""
    if not source.manifest.get("model_is_folder"):
        return ()
    return (f"lookforward.json in it has the path of the base model, {source.manifest['model']}.",)


def push(source: Source, repo: str, private: bool = False) -> str:
    """Upload the export to the model repository `repo`, which is made if it is not there; returns its address.

    private: of a new repository; one that is there stays as public as it is. Files of the same names are replaced by a
    new commit, others stay.

    Raises:
        LookforwardError: as `files_of`; nobody is logged in, the hub cannot be reached, or it refuses.
    """
    files_of(source, repo)
    if not get_token():
        raise LookforwardError(
            "You are not logged in to the model hub: run `hf auth login` with a token that may write, or set HF_TOKEN.",
            "hub-login",
        )
    api = HfApi()
    try:
        made = api.create_repo(repo, private=private or None, exist_ok=True)
        message = f"Upload {source.name}"
        api.upload_folder(repo_id=made.repo_id, folder_path=source.require_export(), commit_message=message)
    except HfHubHTTPError as error:
        raise _refused(repo, api.endpoint, error) from error
    except (HTTPError, OfflineModeIsEnabled) as error:
        raise LookforwardError(
            f"{api.endpoint} cannot be reached ({error}). The export is intact: try again when you are online, and "
            "without HF_HUB_OFFLINE.",
            "hub-unreachable",
        ) from error
    return str(made)


def _refused(repo: str, endpoint: str, error: Any) -> LookforwardError:
    status = error.response.status_code
    said = error.server_message or f"status {status}"
    if status == 401:
        remedy = "Your token is not valid: run `hf auth login` again, or set another HF_TOKEN."
        return LookforwardError(f"{endpoint} does not know you ({said}). {remedy}", "hub-login")
    if status in (403, 404):
        remedy = "Give a repository of your own, or a token that may write to this one."
        return LookforwardError(f"You may not write to {repo} on {endpoint} ({said}). {remedy}", "hub-permission")
    message = f"{endpoint} did not take {repo} ({said}). The export is intact: try again later."
    return LookforwardError(message, "hub-refused")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
