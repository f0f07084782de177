"""Estimate the memory of a run, component by component, before it starts: from model configs, on the meta device."""

import os
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from lookforward.assembly.adapter import build_adapter
from lookforward.assembly.critic import build_critic_updater
from lookforward.assembly.environment import find_reward
from lookforward.assembly.evaluators import encoder_sources
from lookforward.assembly.placement import frozen_parts
from lookforward.config.settings import Settings
from lookforward.core.types import Conditioning
from lookforward.launch import process_count
from lookforward.models.live import activation_bytes, decoding_bytes
from lookforward.models.load_pipeline import pipeline_folder
from lookforward.models.memory import Row, Table, frozen_bytes, gradient_bytes, moment_bytes, parameters_of
from lookforward.models.meta import meta_latents, meta_pipeline, meta_prompt
from lookforward.models.policy import PRECISIONS, DiffusionPolicy
from lookforward.models.sharding import blocks
from lookforward.rewards.terms import parse_terms

_ACTIVATIONS_DEPEND_ON = (
    "adapter.name", "adapter.rank", "adapter.train_text_encoder", "model.precision", "model.gradient_checkpointing",
    "run.batch_size", "data.resolution", "objective.reward", "objective.prior_weight", "objective.reward_gradient",
)  # fmt: skip

_SHARED = ("denoiser, frozen", "trained weights", "gradients", "optimizer", "averaged weights")


def memory_table(
    settings: Settings,
    pipeline: Any = None,
    prompt: Conditioning | None = None,
    activations: dict[Any, list[Row]] | None = None,
) -> Table:
    """The memory of a run on its device.

    pipeline: on the meta device; made of the model's configs if None. Adapter and checkpointing are put into it.
    prompt: one encoded prompt, of which the shapes count; made with the pipeline's own tokenizers if None.
    activations: what earlier calls for the same model found, which takes the longest; this call's is added.

    Raises:
        LookforwardError: there is no such model, or its adapter does not fit it.
    """
    pipeline = pipeline or meta_pipeline(pipeline_folder(settings.model.name, settings.model.revision))
    prompt = prompt or meta_prompt(pipeline, settings.subject.identifier)
    unknown: list[str] = []
    policy = DiffusionPolicy(pipeline, settings.model.precision, settings.data.resolution)
    trained, changes_prompts = _attach(settings, policy, unknown)
    latents = meta_latents(pipeline, settings.data.resolution, 1)
    rows = _weight_rows(settings, policy, trained, changes_prompts)
    if settings.run.shard:
        rows = _of_process(rows, policy, process_count())
    critic = build_critic_updater(settings, policy, latents[1:], prompt.tokens.shape[-1] if prompt else 1)
    if critic is not None:
        sizes = [4 * parameter.numel() for parameter in critic.critic.parameters()]
        copies = 4 if settings.critic.optimizer == "adam" else 2  # weights, gradients and two moments
        rows.append(Row("critic", copies * sum(sizes), sum(sizes) // 4, drawing=True))
    rows += _reward_encoders(settings, unknown)
    known = activations if activations is not None else {}
    key = tuple(settings.flat()[name] for name in _ACTIVATIONS_DEPEND_ON)
    try:
        if prompt is None:
            raise ValueError("how long a prompt gets is not known")
        if key not in known:
            known[key] = _activation_rows(settings, policy, latents, prompt, changes_prompts)
        rows += known[key]
    except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:  # an operation that needs numbers
        unknown.append(f"activations ({str(error).splitlines()[0]})")
    return Table(tuple(row for row in rows if row.bytes or row.parameters), tuple(dict.fromkeys(unknown)))


def _attach(settings: Settings, policy: DiffusionPolicy, unknown: list[str]) -> tuple[list[nn.Parameter], bool]:
    """The trained weights of a policy on the meta device, its adapter in place, and whether that changes prompts."""
    adapter = build_adapter(settings, torch.Generator("cpu"), policy.family)
    trained: list[nn.Parameter] = []
    try:
        trained = list(adapter.attach(policy).values())
    except (NotImplementedError, RuntimeError):  # it measures something of the model's numbers
        unknown.append(f"what adapter {settings.adapter.name} trains")
    for module in policy.components.values():
        nn.Module.to(module, "meta")  # new layers too, wherever they were made
    return trained, adapter.changes_prompts


def _weight_rows(
    settings: Settings, policy: DiffusionPolicy, trained: list[nn.Parameter], changes_prompts: bool
) -> list[Row]:
    """Weights, gradients and moments."""
    chosen, optimizer = settings.model, settings.optimizer
    small, texts = frozen_parts(settings, policy.family), policy.text_encoders.values()

    def frozen(*names_and_modules: tuple[str, nn.Module]) -> int:
        return sum(
            frozen_bytes([module], chosen.weights if name in small else "fp32", chosen.precision)
            for name, module in names_and_modules
        )

    def count(*modules: nn.Module) -> int:
        return sum(parameter.numel() for parameter in parameters_of(*modules, trained=False))

    denoiser, vae = (policy.family.denoiser, policy.denoiser), policy.pipeline.vae
    numbers = sum(parameter.numel() for parameter in trained)
    away = chosen.unload and not changes_prompts
    moments = moment_bytes(trained, optimizer.eight_bit)
    there = 0 if chosen.offload else frozen(denoiser)
    rows = [
        Row("denoiser, frozen", there, count(policy.denoiser), drawing=True),
        Row("text encoders, frozen", frozen(*policy.text_encoders.items()), count(*texts), not away, True),
        Row("autoencoder", frozen(("vae", vae)), count(vae), not _autoencoder_rests(settings), True),
        Row("trained weights", 4 * numbers, numbers, drawing=True),
        Row("gradients", gradient_bytes(trained, optimizer.fused)),
        Row("optimizer", moments, drawing=True),
        Row("averaged weights", 4 * numbers if optimizer.ema else 0, drawing=True),
    ]
    return [
        row for row in rows if row.parameters or not row.part.endswith("frozen")
    ]  # of trained parts: a buffer or two


def _of_process(rows: list[Row], policy: DiffusionPolicy, count: int) -> list[Row]:
    """The rows of one of so many processes that share the trained components."""
    mine = [replace(row, bytes=-(-row.bytes // count)) if row.part in _SHARED else row for row in rows]
    weights = [row for row in rows if row.part in ("denoiser, frozen", "trained weights")]
    begun = sum(row.bytes - -(-row.bytes // count) for row in weights)
    sizes = [sum(p.numel() for p in block.parameters()) for block in blocks(policy.denoiser)]
    at_work = 12 * max(sizes, default=0)  # weights of two blocks, one of which is fetched, and gradients of one
    return [*mine, Row("whole blocks", at_work), Row("whole weights at first", begun, training=False, drawing=True)]


def _autoencoder_rests(settings: Settings) -> bool:
    looks = _needs_image(settings) and not settings.objective.decoder
    return settings.model.unload and not looks and settings.baseline.name == "none"


def _activation_rows(
    settings: Settings, policy: DiffusionPolicy, latents: torch.Size, prompt: Conditioning, changes_prompts: bool
) -> list[Row]:
    both = 2 if settings.objective.prior_weight > 0 else 1  # class images, beside the photos
    b = settings.run.batch_size
    if settings.model.gradient_checkpointing:
        policy.denoiser.enable_gradient_checkpointing()  # pyright: ignore[reportCallIssue]
    found = activation_bytes(
        policy.family,
        policy.denoiser,
        torch.Size((both * b, *latents[1:])),
        prompt.expand(both * b),
        dtype=PRECISIONS[settings.model.precision],
        trained=changes_prompts,
    )
    rows = [Row("activations", found)]
    if _needs_image(settings) and not settings.objective.decoder and settings.baseline.name == "none":
        direct = settings.objective.reward_gradient == "direct"
        images = torch.Size((b, *latents[1:]))
        decoded = decoding_bytes(policy.family, policy.pipeline.vae, images, gradient=direct)
        rows.append(Row("decoding for the reward", decoded))
    return rows


def _needs_image(settings: Settings) -> bool:
    if not settings.follows_reward:
        return False
    specs = [find_reward(name) for _, name in parse_terms(settings.objective.reward)]
    return any(spec is None or spec.needs_image for spec in specs)


def _reward_encoders(settings: Settings, unknown: list[str]) -> list[Row]:
    """A row for each encoder that a reward looks with; what cannot be known without fetching it goes to `unknown`."""
    rows: list[Row] = []
    sources = encoder_sources(settings.model.name)
    for _, name in parse_terms(settings.objective.reward) if settings.follows_reward else ():
        spec = find_reward(name)
        source = sources.get(spec.encoder, "") if spec else ""
        if spec is None or (spec.encoder and not os.path.isdir(source)):
            unknown.append(f"what reward {name} looks with")
        elif spec.encoder:
            with torch.device("meta"):
                encoder = AutoModel.from_config(AutoConfig.from_pretrained(source))
            numbers = sum(parameter.numel() for parameter in encoder.parameters())
            rows.append(Row(f"encoder of reward {name}", 4 * numbers, numbers, drawing=True))
    return rows
