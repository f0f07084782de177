"""DreamBooth's choice of what is trained: the whole UNet and, if wanted, the whole text encoder."""

from dataclasses import dataclass
from pathlib import Path

from diffusers.utils import logging as diffusers_logging
from torch import nn
from transformers.utils import logging as transformers_logging

from lookforward.models.encoders import no_progress_bars
from lookforward.models.loading import forget_origin
from lookforward.models.policy import DiffusionPolicy


@dataclass(frozen=True)
class FullAdapter:
    """All weights of the UNet (859.4M in Stable Diffusion 1.4), with the text encoder's where asked for.

    The export is a pipeline folder that plain diffusers loads.
    """

    train_text_encoder: bool = True

    @property
    def changes_prompts(self) -> bool:
        return self.train_text_encoder

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        modules = {"unet": policy.unet}
        if self.train_text_encoder:
            modules["text_encoder"] = policy.text_encoder
        parameters = {
            f"{part}.{name}": parameter
            for part, module in modules.items()
            for name, parameter in module.named_parameters()
        }
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        return parameters

    def detach(self, policy: DiffusionPolicy) -> None:
        policy.unet.requires_grad_(False)
        policy.text_encoder.requires_grad_(False)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        # A tokenizer remembers, and saves, how its last prompt was padded and cut
        policy.pipeline.tokenizer.backend_tokenizer.no_truncation()
        policy.pipeline.tokenizer.backend_tokenizer.no_padding()
        with no_progress_bars(diffusers_logging, transformers_logging):
            policy.pipeline.save_pretrained(str(folder), safe_serialization=True)
        # vocab.json and merges.txt, which readers want that do not know tokenizer.json
        policy.pipeline.tokenizer.backend_tokenizer.model.save(str(folder / "tokenizer"))
        forget_origin(folder)
