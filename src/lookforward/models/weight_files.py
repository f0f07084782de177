"""Finding and loading models by folder or hub id, with errors that say what to do."""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, ModelInfo, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from transformers.utils import logging as transformers_logging

from lookforward.errors import LookforwardError, first_line, is_out_of_memory, out_of_memory
from lookforward.records import read_bytes

# One question to the hub, asked before any download: without a network each file would be retried for
# half a minute, and CLIPTokenizer would then build a vocabulary of two words instead of failing.
_HUB_TIMEOUT_SECONDS = 5.0
# From a hub id, what the hub says of it (None: it cannot be reached) and a revision ("": the main branch) to a folder
# in the download cache
Fetch = Callable[[str, ModelInfo | None, str], str | Path]


def fetch_model(name: str, found: ModelInfo | None, revision: str = "") -> str:
    """Fetch configuration, vocabulary and one set of weights (safetensors where there are any)."""
    if found is None:
        return snapshot_download(name, revision=revision or None, local_files_only=True)
    files = [file.rfilename for file in found.siblings or []]
    weights = "*.safetensors" if any(file.endswith(".safetensors") for file in files) else "*.bin"
    return snapshot_download(name, revision=revision or None, allow_patterns=["*.json", "*.txt", weights])


def local_folder(source: str | Path, fetch: Fetch = fetch_model, revision: str = "") -> Path:
    """The folder that holds a model: itself, or the hub's files in the download cache, fetched if need be.

    revision: branch, tag or commit of a hub id; the main branch if empty.

    Raises LookforwardError without a network (after seconds, not minutes) or where there is no such model.
    """
    if os.path.isdir(source):
        require_own_configs(Path(source))
        return Path(source)
    try:
        if os.path.isfile(source):
            raise NotADirectoryError(str(source))
        folder = _cached_or_downloaded(str(source), fetch, revision)
    except Exception as error:
        raise explain_load_error(source, error) from error
    require_own_configs(folder)
    return folder


def require_own_configs(folder: Path) -> None:
    """Refuse a model whose configs name another one: its libraries would look for that on the hub, and load it.

    Such are the adapter of another model, and a config that is a text instead of a table: diffusers takes the text for
    the name of a model. Looks at a folder and at the folders directly in it.

    Raises:
        LookforwardError: there is one, or a config cannot be read.
    """
    for path in sorted([*folder.glob("*config.json"), *folder.glob("*/*config.json")]):
        name = path.relative_to(folder).as_posix()
        if path.name == "adapter_config.json":
            problem = ValueError(f"{name} is of an adapter, which names another model: merge it into that model first")
            raise explain_load_error(folder, problem)
        try:
            config = json.loads(read_bytes(path))
        except (LookforwardError, ValueError, RecursionError) as error:
            raise explain_load_error(folder, ValueError(f"{name} cannot be read ({first_line(error)})")) from error
        if not isinstance(config, dict):
            raise explain_load_error(folder, ValueError(f"{name} is no table"))


def hub_commit(model: str, revision: str = "") -> str:
    """The commit of a hub id that was loaded last, by the download cache; "" of a folder, or where it is not known."""
    if os.path.exists(model) or not _could_be_hub_id(model):
        return ""
    path = try_to_load_from_cache(model, "model_index.json", revision=revision or None)
    return Path(path).parent.name if isinstance(path, str) else ""


def explain_load_error(source: str | Path, error: BaseException) -> LookforwardError:
    """What went wrong in loading the model `source`, and what to do, as an error to raise.

    `source`: the folder or hub id that was asked for. `error`: what the loading library raised.
    """
    name = str(source)
    if is_out_of_memory(error):
        return out_of_memory(f"while {name} was loaded", error)
    reason = first_line(error)
    if os.path.isdir(name):
        return LookforwardError(
            f"the model in {name} cannot be loaded: {reason}. The folder must be complete, as "
            "save_pretrained writes it (config.json, model.safetensors and, where there is text, the "
            "tokenizer's files): save or download it again.",
            code="model-incomplete",
        )
    if name.lower().endswith((".safetensors", ".ckpt")):
        there = "is" if os.path.isfile(name) else "is not here, and would be"
        return LookforwardError(
            f"{name} {there} a single file, and models are read from folders. Make one with diffusers, in Python: "
            f"StableDiffusionPipeline.from_single_file({name!r}).save_pretrained('FOLDER'), or with the class of the "
            "model's family, such as StableDiffusionXLPipeline; then give FOLDER.",
            code="model-single-file",
        )
    if not _could_be_hub_id(name):
        return LookforwardError(
            f"there is no model folder {name}. Check the path, or give a hub ID of the form owner/name.",
            code="model-missing",
        )
    if isinstance(error, RevisionNotFoundError):
        return LookforwardError(
            f"{name} has no such revision on the model hub ({reason}). Give a branch, a tag or a commit of it.",
            code="model-revision",
        )
    if isinstance(error, RepositoryNotFoundError):
        return LookforwardError(
            f"{name} is not a folder here, and the model hub has no public model of that name. Check the "
            "spelling; if it is private or gated, run `hf auth login` first.",
            code="model-not-on-hub",
        )
    return LookforwardError(
        f"{name} is not a folder here, and cannot be loaded from the model hub ({reason}). Where there is "
        f"a network, run `hf download {name} --local-dir FOLDER`, copy FOLDER to this machine and pass its "
        "path instead.",
        code="model-unreachable",
    )


def load_weights(kind: Any, folder: Path, **options: Any) -> Any:
    """`kind.from_pretrained(folder)` in single precision, for a transformers class `kind`.

    Raises LookforwardError where the folder lacks a file or a single weight.
    """
    model, missing = load_what_is_there(kind, folder, **options)
    if missing:  # transformers would go on with random numbers in their place
        raise explain_missing(folder, model, missing)
    return model


def load_what_is_there(kind: Any, folder: Path, **options: Any) -> tuple[Any, list[str]]:
    """The model, and the sorted names of its weights that the folder lacks: those hold random numbers.

    Raises LookforwardError where the folder lacks a file.
    """
    try:
        with no_progress_bars(transformers_logging):
            model, info = kind.from_pretrained(str(folder), dtype=torch.float32, output_loading_info=True, **options)
    except Exception as error:
        raise explain_load_error(folder, error) from error
    return model, sorted(info["missing_keys"])


def explain_missing(folder: Path, model: Any, missing: Sequence[str]) -> LookforwardError:
    """That the folder lacks the weights `missing` of `model`, as an error to raise."""
    problem = f"{len(missing)} weights of a {type(model).__name__} are missing ({missing[0]}, …)"
    return explain_load_error(folder, ValueError(problem))


@contextmanager
def no_progress_bars(*libraries: Any) -> Iterator[None]:
    """Spare the user the bars of what takes a moment. libraries: the logging modules of diffusers or transformers."""
    shown = [library for library in libraries if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def check_vocabulary(folder: Path, tokenizer: Any) -> None:
    """Raise LookforwardError for a tokenizer that was made of nothing: every prompt would embed alike."""
    if tokenizer.vocab_size <= len(tokenizer.all_special_tokens):
        missing = "the tokenizer's files are missing (vocab.json and merges.txt, or tokenizer.json)"
        raise explain_load_error(folder, FileNotFoundError(missing))


def _cached_or_downloaded(name: str, fetch: Fetch, revision: str) -> Path:
    if not _could_be_hub_id(name):
        raise FileNotFoundError(name)
    try:
        found = HfApi().model_info(name, revision=revision or None, timeout=_HUB_TIMEOUT_SECONDS)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except Exception as unreachable:  # its type is that of whichever HTTP library the hub's client uses
        try:
            return Path(fetch(name, None, revision))
        except (OSError, ValueError):  # not in the cache, or not all of it
            raise unreachable from None
    return Path(fetch(name, found, revision))


def _could_be_hub_id(name: str) -> bool:
    return re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) is not None
