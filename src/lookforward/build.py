"""Config to objects: the only place that knows both."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import nn

from lookforward.adapters.full import FullAdapter
from lookforward.concept import Concept, check_identifier
from lookforward.config import TOYBOX, Config
from lookforward.critics.residual import ResidualCritic
from lookforward.errors import LookforwardError
from lookforward.generate import use_ddim
from lookforward.latents import encode
from lookforward.metrics.clip_image import ClipImageScore
from lookforward.metrics.clip_text import ClipTextScore
from lookforward.metrics.dino import DinoScore
from lookforward.metrics.oracle import OracleScore
from lookforward.metrics.protocol import Score
from lookforward.policies.diffusion import DiffusionPolicy, load_pipeline
from lookforward.prior import prior_images
from lookforward.protocols import Adapter
from lookforward.rewards.look_forward import LookForwardReward
from lookforward.toybox import CLIP, DINO, MODEL
from lookforward.train import Embeddings, Examples, Trainer
from lookforward.update import Objective
from lookforward.vision import ClipEncoders, ImageEncoder, load_clip, load_dino, to_unit


@dataclass(frozen=True)
class Workshop:
    """The objects of one run. `notes` tells the user what is worth knowing before it starts."""

    pipeline: StableDiffusionPipeline
    policy: DiffusionPolicy
    adapter: Adapter
    trainer: Trainer
    notes: tuple[str, ...]


def build_pipeline(model: str, device: str = "auto") -> StableDiffusionPipeline:
    """The pipeline of "toybox", a folder or a hub id, sampling with DDIM."""
    source: str | Path = MODEL if model == TOYBOX else model
    pipeline = load_pipeline(source, find_device(device))
    use_ddim(pipeline)
    return pipeline


def find_device(device: str) -> str:
    """What "auto" means on this machine; any other name must be one that torch can use here."""
    if device != "auto":
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise LookforwardError(f"device = {device!r} cannot be used here: {reason}. Give cpu, or auto.") from error
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check(config: Config, concept: Concept) -> tuple[str, ...]:
    """What `build` would raise, and the notes it would give, found without drawing or writing anything."""
    return _check(config, concept, DiffusionPolicy(build_pipeline(config.model, config.device), config.precision))


def build(config: Config, concept: Concept, pipeline: StableDiffusionPipeline | None = None) -> Workshop:
    """Everything that a run needs, from its config and its concept.

    pipeline: the untouched model if it is already loaded; its weights will be trained in place.

    Raises:
        LookforwardError: the model cannot be loaded, or config and model do not fit each other.
    """
    pipeline = pipeline or build_pipeline(config.model, config.device)
    policy = DiffusionPolicy(pipeline, config.precision)
    notes = _check(config, concept, policy)

    references = Examples(encode(pipeline.vae, to_unit(_stack(concept))), concept.prompt)
    prior = _build_prior(config, concept, pipeline) if config.prior_weight > 0 else None

    generator = torch.Generator().manual_seed(config.seed)
    critic = _build_critic(config, references.latents.mean.shape[1:])
    critic = critic.to(policy.device) if critic is not None else None
    adapter = FullAdapter(config.train_text_encoder)
    parameters = adapter.attach(policy)
    trainer = Trainer(
        policy=policy,
        parameters=parameters,
        optimizer=torch.optim.AdamW(
            parameters.values(),
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            weight_decay=config.weight_decay,
        ),
        critic=critic,
        critic_optimizer=torch.optim.SGD(critic.parameters(), lr=config.critic_learning_rate) if critic else None,
        reward=LookForwardReward(),
        objective=Objective(config.critic_weight, config.noise_weight, config.prior_weight, config.discount),
        references=references,
        prior=prior,
        embeddings=Embeddings(policy, config.train_text_encoder),
        batch=config.batch,
        max_grad_norm=config.max_grad_norm,
        critic_max_grad_norm=config.critic_max_grad_norm,
        generator=generator,
    )
    return Workshop(pipeline, policy, adapter, trainer, notes)


def _check(config: Config, concept: Concept, policy: DiffusionPolicy) -> tuple[str, ...]:
    note = check_identifier(config.identifier, lambda text: _tokens(policy, text))
    _require_size(config, policy.pipeline)
    return (*concept.notes, *((note,) if note else ()))


def _build_critic(config: Config, shape: torch.Size) -> nn.Module | None:
    # Its own generator: recipes with and without a critic see the same photos, noise and timesteps for a seed
    generator = torch.Generator().manual_seed(config.seed)
    match config.critic:
        case "none":
            return None
        case "residual":
            channels, height, width = shape
            return ResidualCritic(channels, height, width, generator=generator)


def _build_prior(config: Config, concept: Concept, pipeline: StableDiffusionPipeline) -> Examples:
    images = prior_images(
        pipeline,
        concept.class_prompt,
        config.prior_images,
        steps=config.prior_steps,
        guidance=config.guidance,
        resolution=config.resolution,
    )
    return Examples(encode(pipeline.vae, to_unit(images)), concept.class_prompt)


def _stack(concept: Concept) -> np.ndarray:
    return np.stack([photo.pixels for photo in concept.photos])  # (n, h, w, 3) uint8


def _tokens(policy: DiffusionPolicy, text: str) -> list[int]:
    # An unknown piece becomes the end-of-text token, which says nothing
    silent = set(policy.pipeline.tokenizer.all_special_ids)
    return [token for token in policy.count_tokens(text) if token not in silent]


def _require_size(config: Config, pipeline: StableDiffusionPipeline) -> None:
    # Each level of the VAE and of the UNet halves the image once, but for the last
    unit = pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config["block_out_channels"]) - 1)
    if config.resolution % unit:
        near = max(unit, round(config.resolution / unit) * unit)
        raise LookforwardError(
            f"resolution = {config.resolution} does not fit this model: take a multiple of {unit}, such as {near}."
        )


@dataclass(frozen=True)
class Judges:
    """The encoders that scores are taken with."""

    dino: ImageEncoder
    clip: ClipEncoders


def build_judges(model: str, dino: str | None = None, clip: str | None = None, device: str = "auto") -> Judges:
    """The benchmark's encoders, ViT-S/16 DINO and ViT-B/32 CLIP, or Toybox's own for Toybox.

    dino, clip: other folders or hub ids to use.
    """
    on_toybox = model == TOYBOX
    return Judges(
        load_dino(dino or (DINO if on_toybox else "facebook/dino-vits16"), find_device(device)),
        load_clip(clip or (CLIP if on_toybox else "openai/clip-vit-base-patch32"), find_device(device)),
    )


def build_scores(judges: Judges, references: np.ndarray, drawing: np.ndarray | None = None) -> list[Score]:
    """The scores of one subject.

    references: (k, h, w, 3) uint8; drawing: the subject alone, (h, w, 4) in [0, 1], where the world knows it.
    """
    photos = to_unit(references)
    scores: list[Score] = [
        DinoScore(judges.dino, photos),
        ClipImageScore(judges.clip.image, photos),
        ClipTextScore(judges.clip),
    ]
    if drawing is not None:
        scores.append(OracleScore(torch.from_numpy(drawing).permute(2, 0, 1)))
    return scores
