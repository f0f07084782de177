"""What a photo encoder gives of a run's photos: where training starts, and what is drawn without any."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lookforward.adapters import ADAPTERS
from lookforward.adapters.elite import EliteAdapter, Start
from lookforward.adapters.ip_adapter import IPAdapterStart
from lookforward.adapters.lora import load_lora
from lookforward.adapters.photo_specs import E4T, ELITE
from lookforward.adapters.photo_tokens import PhotoTokensAdapter
from lookforward.adapters.pivotal import PivotalAdapter
from lookforward.adapters.specs import FULL, NETI, P_PLUS
from lookforward.adapters.started import StartedAdapter
from lookforward.adapters.words import words_of
from lookforward.assembly.evaluators import encoder_sources
from lookforward.bundle import present_name
from lookforward.config.recipe import is_ip_adapter
from lookforward.config.settings import Settings
from lookforward.core.protocols import Adapter
from lookforward.core.specs import find_spec
from lookforward.errors import LookforwardError
from lookforward.files import digest_folder
from lookforward.models.encoders import load_clip
from lookforward.models.families import family_of
from lookforward.models.ip_adapter import show_photos_by_ip_adapter
from lookforward.models.photo_encoder import (
    OFFSETS,
    PhotoEncoder,
    find_encoder,
    is_flow,
    load_encoder,
    require_encodable,
    require_fits,
)
from lookforward.models.photo_features import VisionTower
from lookforward.models.policy import DiffusionPolicy
from lookforward.runs.photo_lines import ENCODER_LINE


def encode_photos(encoder: PhotoEncoder, photos: Sequence[Tensor], device: Any) -> Start:
    """The start of each subject from its photos (k, 3, h, w) in [0, 1]: the mean of their words, and all details.

    Raises:
        LookforwardError: the CLIP that the encoder reads cannot be loaded.
    """
    sizes = encoder.sizes
    own = sizes.clip or encoder_sources(present_name(sizes.model, sizes.model_hash))["clip"]
    tower = VisionTower(load_clip(own, device), sizes.layers)
    encoder = encoder.to(device)
    seen = [tower(some) for some in photos]
    with torch.no_grad():
        if sizes.tokens:
            patches = [one._replace(patches=one.patches.flatten(0, 1)[None]) for one in seen]  # of all photos
            return Start((), tokens=tuple(encoder.tokens(one)[0] for one in patches))
        vectors = tuple(encoder.words(one)[:, 0].mean(dim=0) for one in seen)
        if sizes.stage in ("global", "e4t"):
            return Start(vectors)
        details = tuple(encoder.details(one).flatten(0, 1) for one in seen)
    return Start(vectors, details, encoder.projections, sizes.strength)


def started(adapter: Adapter, settings: Settings, photos: Sequence[Tensor], policy: DiffusionPolicy) -> Adapter:
    """The adapter of a run, started from the encoder that its settings name. photos: of each subject.

    Raises:
        LookforwardError: the encoder cannot be read, or is of another model.
    """
    if is_ip_adapter(settings.adapter.encoder):
        return IPAdapterStart(adapter, settings.adapter.encoder, photos[0])
    encoder = load_encoder(settings.adapter.encoder)
    require_fits(encoder, policy.pipeline, settings.adapter.encoder)
    start = encode_photos(encoder, photos, policy.device)
    if isinstance(adapter, PivotalAdapter) and encoder.sizes.stage == "e4t":
        offsets = str(find_encoder(settings.adapter.encoder) / OFFSETS)
        adapter = replace(adapter, lora=replace(adapter.lora, start=offsets))
    if isinstance(adapter, EliteAdapter):
        return EliteAdapter(adapter.words, start=start)
    if start.tokens is not None:
        names = tuple(word.identifier for word in words_of(settings))
        return PhotoTokensAdapter(names, start.tokens, adapter)
    learns = find_spec(ADAPTERS, settings.adapter.name, "adapter").learns_word
    return StartedAdapter(adapter, words_of(settings), start, learns)


def writes_words(settings: Settings) -> bool:
    """Whether a run starts from an encoder that writes a word for its subjects."""
    return bool(settings.adapter.encoder) and not is_ip_adapter(settings.adapter.encoder)


def check_start(settings: Settings, policy: DiffusionPolicy) -> Adapter | None:
    """What adds the words of a run that starts from an encoder, if its adapter does not; else None.

    Raises:
        LookforwardError: the adapter, the model or a setting has no place for what an encoder gives; or the encoder is
            missing, damaged or of another model.
    """
    if not settings.adapter.encoder:
        return None
    spec = find_spec(ADAPTERS, settings.adapter.name, "adapter")
    if is_ip_adapter(settings.adapter.encoder):
        _check_ip_start(settings)
        return None
    require_encodable(policy.family)
    if spec in (P_PLUS, NETI):
        names = ", ".join(one.name for one in ADAPTERS if one not in (P_PLUS, NETI))
        message = f"Adapter {spec.name!r} cannot start from an encoder, which writes one word for all layers: use one "
        raise LookforwardError(f"{message}of {names}.", code="adapter-start")
    if is_flow(policy.pipeline) and spec.learns_word and spec != ELITE:
        names = ", ".join(one.name for one in ADAPTERS if one == ELITE or not one.learns_word)
        message = f"Adapter {spec.name!r} cannot start from an encoder of {policy.family.label}: use one of {names}."
        raise LookforwardError(message, code="adapter-start")
    if settings.adapter.vectors > 1 or settings.adapter.start or settings.baseline.name == "dpok":
        raise LookforwardError(
            "adapter.encoder writes words of one vector, and is the only start: set adapter.vectors to 1, leave out "
            "adapter.start, and use another baseline than dpok.",
            code="settings-conflict",
        )
    encoder = load_encoder(settings.adapter.encoder)
    require_fits(encoder, policy.pipeline, settings.adapter.encoder)
    if (encoder.sizes.stage == "e4t") != (spec == E4T):
        raise LookforwardError(
            f"{settings.adapter.encoder} has {'' if encoder.sizes.stage == 'e4t' else 'no '}weight offsets: adapter "
            "e4t, and no other, starts from an encoder with them (`lookforward pretrain-encoder --stage e4t`).",
            code="adapter-start",
        )
    return None if spec.learns_word else EliteAdapter(words_of(settings))


def _check_ip_start(settings: Settings) -> None:
    if settings.adapter.name in (FULL.name, ELITE.name, P_PLUS.name, NETI.name) or settings.subject.others:
        raise LookforwardError(
            "With IP-Adapter weights adapter.encoder is for one subject and adapters such as lora, whose export does "
            "not hold the model.",
            code="adapter-start",
        )
    if settings.objective.prior_weight or settings.baseline.name != "none":
        raise LookforwardError(
            "IP-Adapter weights show the photos to every prompt, those of the class too: set objective.prior_weight to "
            "0, and baseline.name to none.",
            code="adapter-start",
        )


def encoder_digests(settings: Settings) -> list[str]:
    """The line of the encoder among the digests of a run: none without one.

    Raises:
        LookforwardError: it is missing.
    """
    if not settings.adapter.encoder or is_ip_adapter(settings.adapter.encoder):
        return []
    return [ENCODER_LINE + digest_folder(find_encoder(settings.adapter.encoder), "**/*.safetensors")]


def show_photos(pipeline: Any, given: str | Path, photos: Tensor, identifier: str, initial_word: str) -> None:
    """Let a pipeline draw a subject from its photos (k, 3, h, w) without training. initial_word: any that it knows.

    Raises:
        LookforwardError: the encoder cannot be read, or is of another model; the model knows the identifier already.
    """
    from lookforward.adapters.words import Word

    if is_ip_adapter(str(given)):
        show_photos_by_ip_adapter(pipeline, str(given), photos)
        return
    require_encodable(family_of(pipeline))
    encoder = load_encoder(given)
    require_fits(encoder, pipeline, given)
    if encoder.sizes.stage == "e4t":
        load_lora(pipeline, find_encoder(given) / OFFSETS)
    policy = DiffusionPolicy(pipeline)
    start = encode_photos(encoder, [photos], policy.device)
    EliteAdapter((Word(identifier, initial_word),), start=start).attach(policy)
