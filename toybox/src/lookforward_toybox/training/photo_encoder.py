"""Train the photo encoder of ELITE (Wei et al., 2023) on pictures of many subjects, in two stages.

global: the words v = GlobalMapping(f) of all layers stand in the prompt, and
    L = w(t) ‖o - target‖² + 0.001 mean |v| / spread
local: the deepest word alone stands there, and the details e = LocalMapping(f) in the cross-attentions:
    L = w(t) ‖o - target‖² + 0.0001 mean |W_v e|

f: the features of another picture of the subject, where there is one. w: min-SNR weights. The model stays as it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookforward.adapters.elite import become
from lookforward.assembly.evaluators import encoder_sources
from lookforward.bundle import TOYBOX
from lookforward.core.path import add_noise
from lookforward.core.prediction import Prediction
from lookforward.core.types import Conditioning, State
from lookforward.errors import LookforwardError
from lookforward.exports.load import model_hash
from lookforward.models.encoders import load_clip, to_unit
from lookforward.models.families import family_of
from lookforward.models.families.photo_prompts.pipeline import PhotoPrompt, joined
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.photo_encoder import (
    WEIGHTS,
    PhotoEncoder,
    PhotoFeatures,
    VisionTower,
    fresh_sizes,
    load_encoder,
    require_encodable,
    save_encoder,
)
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.weight_files import local_folder
from lookforward_toybox import SHIPPED
from lookforward_toybox.training.data import hash_encoder, hash_file
from lookforward_toybox.training.latents import Latents, cache_latents
from lookforward_toybox.training.loop import TrainingSchedule, describe, require_same, run_stage
from lookforward_toybox.training.photo_data import PhotoData, open_photos, open_world, world_folder
from lookforward_toybox.training.state import load_averaged
from lookforward_toybox.training.tokenizer import encode_captions, pick_captions

STAGES = ("global", "local")
WORD = "<photo>"
_WORDS, _DETAILS = 1e-3, 1e-4  # weights of the L1 terms
_SNR = 5.0
_ALL_WORDS = 0.5  # share of the steps of stage global whose prompts hold the words of all layers


class BatchWords(nn.Module):
    """A token embedding in which tokens from `first` on are the words of the sample that they stand in."""

    def __init__(self, base: nn.Module, first: int) -> None:
        super().__init__()
        self.base, self.first, self.vectors = base, first, torch.empty(0)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token numbers (b, l) to (b, l, d); `vectors` is (b, k, d)."""
        new = tokens >= self.first
        known = self.base(tokens.masked_fill(new, 0))
        index = (tokens - self.first).clamp(min=0)[..., None].expand_as(known)
        return torch.where(new[..., None], self.vectors.to(known).gather(1, index), known)


def with_all_words(tokens: Tensor, first: int, count: int) -> Tensor:
    """Prompts (b, l) in which the word `first` is followed by the other count - 1, the end cut off."""
    place = torch.arange(tokens.shape[1]).expand_as(tokens)
    found = (tokens == first).long()
    start = torch.where(found.any(dim=1), found.argmax(dim=1), tokens.shape[1])[:, None]  # (b, 1)
    after = tokens.gather(1, (place - count + 1).clamp(min=0))
    return torch.where(place <= start, tokens, torch.where(place < start + count, first + place - start, after))


@dataclass(frozen=True)
class EncoderTraining:
    """All that a step looks at. tokens: (n, v, l), captions; WORD is the token `first`. vae: a folder. place: where
    the pictures are. cache: for their latents."""

    encoder: PhotoEncoder
    policy: DiffusionPolicy
    tower: VisionTower
    data: PhotoData
    tokens: Tensor
    first: int
    stage: str
    batch: int
    vae: Path
    place: Path
    cache: Path

    @cached_property
    def latents(self) -> Latents:
        """Mean and standard deviation of each picture's latents, (n, 2c, h, w)."""
        return cache_latents(self.data.images, self.vae, self.cache, str(self.policy.device))

    def terms(self, _: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of a step, and its parts."""
        policy, device = self.policy, self.policy.device
        index, source = self.data.draw(self.batch, generator)
        x_0 = self._x_0(index, generator)
        timestep = policy.path.sample(self.batch, generator)
        noise = torch.randn(x_0.shape, generator=generator)
        ids = pick_captions(self.tokens, index, generator)
        whole = self.stage == "global" and float(torch.rand((), generator=generator)) < _ALL_WORDS
        photos = to_unit(self.data.images[source.numpy()]).to(device)
        conditioning, penalty = self._condition(ids.to(device), self.tower(photos), whole)
        x_0, timestep, noise = x_0.to(device), timestep.to(device), noise.to(device)
        signal, level = policy.path.of(x_0).at(timestep)
        x_t = add_noise(x_0, noise, signal, level)
        action = policy.act(State(x_t, timestep, conditioning))
        target = policy.prediction.target(x_0, noise, signal, level)
        error = (action - target).square().mean(dim=(1, 2, 3))  # (b,)
        flow = policy.prediction is Prediction.FLOW
        weight = 1.0 if flow else policy.prediction.min_snr_weight(signal, level, _SNR)
        loss = (weight * error).mean()
        return {"loss": loss + penalty, "reconstruction": loss, "penalty": penalty}

    def _x_0(self, index: Tensor, generator: torch.Generator) -> Tensor:
        vae: Any = self.policy.pipeline.vae
        mean, deviation = torch.from_numpy(self.latents[index.numpy()]).float().chunk(2, dim=1)
        drawn = mean + deviation * torch.randn(mean.shape, generator=generator)
        return (drawn - (vae.config.get("shift_factor") or 0.0)) * vae.config["scaling_factor"]

    def _condition(self, ids: Tensor, seen: PhotoFeatures, whole: bool) -> tuple[Conditioning, Tensor]:
        """The prompts with the photos' words, of all layers if `whole`, and details; and the L1 term."""
        text: Any = self.policy.pipeline.text_encoder
        with torch.set_grad_enabled(self.stage == "global"):
            words = self.encoder.words(seen)
            if whole:
                ids = with_all_words(ids.cpu(), self.first, words.shape[1]).to(ids.device)
            text.get_input_embeddings().vectors = words
            tokens = text(ids)[0].float()
        if self.stage == "global":
            return Conditioning(tokens), _WORDS * (words / self.encoder.sizes.spread).abs().mean()
        details = self.encoder.details(seen)
        values: Any = self.encoder.projections.to_v
        penalty = torch.stack([layer(details).float().abs().mean() for layer in values]).mean()
        return Conditioning(joined(tokens, ids == self.first, details.float())), _DETAILS * penalty


def train_encoder(
    data: Path,
    folder: Path,
    stage: str,
    *,
    steps: int = 20_000,
    minutes: float | None = None,
    seed: int = 0,
    batch: int = 48,
    learning_rate: float = 1e-3,
    log_every: int = 20,
    **given: Any,
) -> Iterator[dict[str, Any]]:
    """Train or resume one stage in FOLDER/STAGE, yielding log rows, and export to FOLDER/export.

    data: a drawn world, or a folder of photos. given: further arguments of `build_training`.

    Raises:
        LookforwardError: data or model cannot be used, stage local comes first, or other settings began the training.
    """
    run = build_training(data, folder, stage, seed=seed, batch=batch, **given)
    sizes, before = run.encoder.sizes, folder / "global" / "encoder" / WEIGHTS
    schedule = TrainingSchedule(steps, learning_rate, minutes)
    more = {"encoder": hash_encoder(run.vae), "model": sizes.model_hash, "pictures_used": len(run.data.chosen)}
    more |= {"words": hash_file(before)} if stage == "local" else {}
    about = {"hidden": sizes.hidden, "layers": sizes.layers}
    settings = describe(f"encoder-{stage}", about, run.place, schedule, seed, batch, **more)
    require_same(folder / stage, settings)  # before all pictures are encoded
    device = str(run.policy.device)
    trained = False
    for row in run_stage(
        folder=folder / stage, module=run.encoder, loss=run.terms, schedule=schedule, seed=seed, settings=settings,
        batch=batch, device=device, log_every=log_every,
    ):  # fmt: skip
        trained = True
        yield row
    if trained or not (folder / stage / "encoder").is_dir():
        _export(run.encoder, folder, stage, settings)


def build_training(
    data: Path,
    folder: Path,
    stage: str,
    *,
    model: str = TOYBOX,
    clip: str = "",
    class_noun: str = "",
    without: tuple[str, ...] = (),
    seed: int = 0,
    device: str = "cpu",
    batch: int = 48,
) -> EncoderTraining:
    """The parts of a stage's training.

    clip: hub id or folder; the model's own where empty. class_noun, without: see `open_photos` and `open_world`.

    Raises:
        LookforwardError: as `train_encoder`.
    """
    before = folder / "global" / "encoder"
    if stage == "local" and not before.is_dir():
        message = f"{before} is missing: stage local needs the words of stage global. Train that stage first."
        raise LookforwardError(message, code="encoder-stage")
    require_data(data)
    pipeline = build_pipeline(model, device)
    require_encodable(family_of(pipeline))
    place = world_folder(data)
    size = family_of(pipeline).native_size(pipeline)
    found = open_world(place, without) if place else open_photos(data, folder / "data", class_noun, size)
    loaded = load_clip(clip or encoder_sources(model)["clip"], device)
    torch.manual_seed(seed)  # initial weights
    encoder = PhotoEncoder(fresh_sizes(pipeline, loaded, model, model_hash(pipeline), clip)).to(device)
    if stage == "local":
        encoder.load_state_dict(load_encoder(before).state_dict())
    encoder.requires_grad_(False)
    for part in encoder.parts(stage).values():
        part.requires_grad_(True)
    vae = (SHIPPED.pipeline if model == TOYBOX else local_folder(model)) / "vae"
    tokens, first = _read_captions(pipeline, found.captions)
    policy = DiffusionPolicy(pipeline)
    for network in policy.components.values():
        network.requires_grad_(False)
    if stage == "local":
        nothing = {WORD: torch.zeros(0, encoder.sizes.width)}
        become(pipeline).set_photo_prompt(PhotoPrompt(nothing, encoder.projections))
    tower = VisionTower(loaded, encoder.sizes.layers)
    cache = folder / "latents"
    return EncoderTraining(
        encoder, policy, tower, found, tokens, first, stage, batch, vae, place or folder / "data", cache
    )


def require_data(data: Path) -> None:
    """Raise LookforwardError unless there is a folder of that name."""
    if not data.is_dir():
        raise LookforwardError(
            f"{data} is not a folder: give one of photos, one of folders of photos, or a world that `lookforward "
            "toybox draw` has drawn.",
            code="encoder-data",
        )


def _export(encoder: PhotoEncoder, folder: Path, stage: str, settings: Mapping[str, Any]) -> None:
    """Write the averaged weights of a stage to FOLDER/STAGE/encoder, and the newest of both to FOLDER/export."""
    load_averaged(folder / stage, encoder)
    about = {"lookforward": f"stage {stage}, seed {settings['seed']}, batches of {settings['batch']}"}
    for target in (folder / stage / "encoder", folder / "export"):
        save_encoder(encoder, target, stage, about)


def _read_captions(pipeline: Any, captions: list[list[str]]) -> tuple[Tensor, int]:
    """Captions as tokens (n, v, l), and the first token that is a word; the text encoder reads such ones from now."""
    first = len(pipeline.tokenizer)
    pipeline.tokenizer.add_tokens([WORD])
    encoder = pipeline.text_encoder
    encoder.set_input_embeddings(BatchWords(encoder.get_input_embeddings(), first))
    written = [[caption.replace("{}", f" {WORD} ") for caption in some] for some in captions]
    tokens = encode_captions(pipeline.tokenizer, written)
    if int((tokens == first).sum(dim=-1).min()) != 1:
        raise LookforwardError(
            "A caption names the subject behind what the model reads, or more than once: shorten it, with one {}.",
            code="encoder-data",
        )
    return tokens, first
