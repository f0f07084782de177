"""DreamBooth's choice of what is trained: the whole denoiser and, if wanted, the text encoders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from tokenizers.models import BPE
from torch import nn
from transformers.utils import logging as transformers_logging

from lookforward.models.load_pipeline import forget_origin
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.weight_files import no_progress_bars


@dataclass(frozen=True)
class FullAdapter:
    """All weights of the denoiser (859.4M in Stable Diffusion 1.4), with those of the text encoders if wanted.

    The export is a pipeline folder that plain diffusers loads.
    """

    train_text_encoder: bool = True

    @property
    def changes_prompts(self) -> bool:
        return self.train_text_encoder

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        parts = policy.components if self.train_text_encoder else {policy.family.denoiser: policy.denoiser}
        parameters = {f"{part}.{name}": p for part, module in parts.items() for name, p in module.named_parameters()}
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        return parameters

    def detach(self, policy: DiffusionPolicy) -> None:
        for module in policy.components.values():
            module.requires_grad_(False)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        save_pipeline(policy, folder)


def save_pipeline(policy: DiffusionPolicy, folder: Path) -> None:
    """Write the pipeline as a folder that diffusers loads, the same whatever was drawn before."""
    names = [name for name in policy.family.tokenizers if getattr(policy.pipeline, name, None) is not None]
    tokenizers = {name: getattr(policy.pipeline, name).backend_tokenizer for name in names}
    for tokenizer in tokenizers.values():  # it remembers, and saves, how its last prompt was padded and cut
        tokenizer.no_truncation()
        tokenizer.no_padding()
    with no_progress_bars(diffusers_logging, transformers_logging):
        policy.pipeline.save_pretrained(str(folder), safe_serialization=True)
    for name, tokenizer in tokenizers.items():
        if isinstance(tokenizer.model, BPE):  # vocab.json and merges.txt, for readers that do not know tokenizer.json
            tokenizer.model.save(str(folder / name))
    forget_origin(folder)


def build_full(settings: Any, _: torch.Generator) -> FullAdapter:
    """The adapter of a run's settings."""
    return FullAdapter(settings.adapter.train_text_encoder)
