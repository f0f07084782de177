"""Finding and loading models by folder or hub id, with errors that say what to do."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import HfApi, ModelInfo, hf_hub_download, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError
from transformers.utils import logging as transformers_logging

from lookforward.errors import LookforwardError
from lookforward.models.families import find_family

# One question to the hub, asked before any download: without a network each file would be retried for
# half a minute, and CLIPTokenizer would then build a vocabulary of two words instead of failing.
_HUB_TIMEOUT_SECONDS = 5.0
# From a hub id and what the hub says of it (None: it cannot be reached) to a folder in the download cache
Fetch = Callable[[str, ModelInfo | None], str | Path]


def load_pipeline(source: str | Path, device: str = "cpu") -> Any:
    """The pipeline of a folder or a hub id, of any known family: weights in single precision, no progress bar.

    Raises:
        LookforwardError: it is of no known family, a part is missing or unreadable, or the hub cannot be reached.
    """
    folder = local_folder(source, _fetch_pipeline)
    index = folder / "model_index.json"
    if not index.is_file():
        raise LookforwardError(
            f"{folder} has no model_index.json: it is no pipeline folder. Give the folder that diffusers' "
            "save_pretrained wrote, such as RUN/export.",
            code="model-index-missing",
        )
    try:
        parts: dict[str, Any] = json.loads(index.read_text(encoding="utf-8"))
        family = find_family(parts["_class_name"])
    except (ValueError, KeyError, TypeError) as error:
        raise explain_load_error(folder, error) from error
    absent = {name for name in family.optional if not (parts.get(name) or [None])[0]}
    wanted = {family.denoiser, "vae", *family.text_encoders, *family.tokenizers, "scheduler"} - absent
    if missing := sorted(name for name in wanted if not (folder / name).is_dir()):
        raise explain_load_error(folder, FileNotFoundError(f"it has no folder {' and no '.join(missing)}"))
    # Loaded one by one: diffusers would fill gaps in a text encoder with noise
    encoders: dict[str, Any] = {
        name: load_weights(getattr(transformers, parts[name][1]), folder / name)
        for name in family.text_encoders
        if name not in absent
    }
    try:
        with no_progress_bars(diffusers_logging, transformers_logging):
            kind: Any = getattr(diffusers, family.pipeline_class)
            given = {**family.load_options, **dict.fromkeys(absent), **encoders}
            pipeline = kind.from_pretrained(str(folder), dtype=torch.float32, **given)
    except Exception as error:  # diffusers raises OSError, ValueError, AttributeError, safetensors' own …
        raise explain_load_error(folder, error) from error
    for name in sorted(set(family.tokenizers) - absent):
        check_vocabulary(folder / name, getattr(pipeline, name))
    pipeline.set_progress_bar_config(disable=True)
    for module in (getattr(pipeline, family.denoiser), pipeline.vae, *encoders.values()):
        if missing := [name for name, weight in module.named_parameters() if weight.is_meta]:
            raise explain_missing(folder, module, missing)
        module.requires_grad_(False).eval()
    if problem := family.kind_problem(pipeline):
        raise LookforwardError(
            f"{folder} is no text-to-image model of the kind of {family.label}: {problem}. Give such a one.",
            code="model-kind",
        )
    return pipeline.to(device)


def _fetch_pipeline(name: str, found: ModelInfo | None) -> Path:
    offline = found is None
    index = Path(hf_hub_download(name, "model_index.json", local_files_only=offline))
    find_family(json.loads(index.read_text(encoding="utf-8"))["_class_name"])  # before gigabytes are fetched
    # diffusers knows which of a repository's many weights a pipeline needs
    download: Any = diffusers.DiffusionPipeline.download
    return Path(download(name, safety_checker=None, local_files_only=offline))


def fetch_model(name: str, found: ModelInfo | None) -> str:
    """Fetch configuration, vocabulary and one set of weights (safetensors where there are any)."""
    if found is None:
        return snapshot_download(name, local_files_only=True)
    files = [file.rfilename for file in found.siblings or []]
    weights = "*.safetensors" if any(file.endswith(".safetensors") for file in files) else "*.bin"
    return snapshot_download(name, allow_patterns=["*.json", "*.txt", weights])


def local_folder(source: str | Path, fetch: Fetch = fetch_model) -> Path:
    """The folder that holds a model: itself, or the hub's files in the download cache, fetched if need be.

    Raises LookforwardError without a network (after seconds, not minutes) or where there is no such model.
    """
    if Path(source).is_dir():
        return Path(source)
    try:
        if Path(source).is_file():
            raise NotADirectoryError(str(source))
        return _cached_or_downloaded(str(source), fetch)
    except Exception as error:
        raise explain_load_error(source, error) from error


def explain_load_error(source: str | Path, error: BaseException) -> LookforwardError:
    """What went wrong in loading the model `source`, and what to do, as an error to raise.

    `source`: the folder or hub id that was asked for. `error`: what the loading library raised.
    """
    name = str(source)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    if Path(name).is_dir():
        return LookforwardError(
            f"the model in {name} cannot be loaded: {reason}. The folder must be complete, as "
            "save_pretrained writes it (config.json, model.safetensors and, where there is text, the "
            "tokenizer's files): save or download it again.",
            code="model-incomplete",
        )
    if name.lower().endswith((".safetensors", ".ckpt")):
        there = "is" if Path(name).is_file() else "is not here, and would be"
        return LookforwardError(
            f"{name} {there} a single file, and models are read from folders. Of a Stable Diffusion make one with "
            f"diffusers, in Python: StableDiffusionPipeline.from_single_file({name!r}).save_pretrained('FOLDER'); then "
            "give FOLDER.",
            code="model-single-file",
        )
    if not _could_be_hub_id(name):
        return LookforwardError(
            f"there is no model folder {name}. Check the path, or give a hub id of the form owner/name.",
            code="model-missing",
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


def forget_origin(folder: Path) -> None:
    """Take out of a saved pipeline's configs where its parts were loaded from: a path of this machine."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(config, dict) and config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _cached_or_downloaded(name: str, fetch: Fetch) -> Path:
    if not _could_be_hub_id(name):
        raise FileNotFoundError(name)
    try:
        found = HfApi().model_info(name, timeout=_HUB_TIMEOUT_SECONDS)
    except RepositoryNotFoundError:
        raise
    except Exception as unreachable:  # its type is that of whichever HTTP library the hub's client uses
        try:
            return Path(fetch(name, None))
        except (OSError, ValueError):  # not in the cache, or not all of it
            raise unreachable from None
    return Path(fetch(name, found))


def _could_be_hub_id(name: str) -> bool:
    return re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) is not None
