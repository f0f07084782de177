"""Stable Diffusion 3 that is shown a subject as tokens beside those of the prompt.

This file needs diffusers, safetensors and torch, and nothing else: an export carries a copy of it beside
`photo_prompt.safetensors`, and is loaded so:

    pipeline = DiffusionPipeline.from_pretrained(BASE, custom_pipeline="FOLDER/pipeline.py", trust_remote_code=True)
    pipeline.load_photo_prompt("FOLDER")

As IP-Adapter for transformers (Ye et al. 2023, arXiv 2308.06721, and its successors), an image is n tokens that every
attention reads. They take the places of the last n of the prompt's (b, l, d), which are padding, so that a prompt that
does not name the subject is drawn as before. The name itself is left out of what the text encoders read.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from safetensors import safe_open
from torch import Tensor

WEIGHTS = "photo_prompt.safetensors"


class PhotoTokensPipeline(StableDiffusion3Pipeline):
    """`StableDiffusion3Pipeline` that can be shown subjects. Without them it is the plain pipeline."""

    photo_tokens: Mapping[str, Tensor] | None = None  # by identifier, (n, d)

    def load_photo_prompt(self, path: str | Path, strength: float = 1.0) -> None:
        """Load the tokens of an export's folder.

        strength: 0 are the tokens that training without an encoder would begin with, zeros; 1 as trained.

        Raises:
            ValueError: the file is of another model, or the pipeline is shown photos already.
        """
        if self.photo_tokens is not None:
            raise ValueError("the pipeline is shown photos already")
        with safe_open(str(Path(path) / WEIGHTS), "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if "subjects" not in about or int(about["width"]) != self.transformer.config["joint_attention_dim"]:
            raise ValueError("it was made for another model, whose prompts have another width")
        names = json.loads(about["subjects"])
        self.photo_tokens = {name: strength * tensors[f"tokens.{name}"].to(self.transformer.device) for name in names}

    def encode_prompt(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, prompt: Any, prompt_2: Any = None, prompt_3: Any = None, *args: Any, **settings: Any
    ) -> tuple[Any, ...]:
        """As that of diffusers, with the tokens of the first subject that each prompt names."""
        shown = self.photo_tokens
        if shown is None or prompt is None:
            own: Any = (prompt, prompt_2, prompt_3)
            return super().encode_prompt(*own, *args, **settings)
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        found = [next((name for name in shown if name in text), None) for text in texts]

        def unnamed(given: Any) -> list[str]:
            listed = texts if given is None else [given] if isinstance(given, str) else list(given)
            return [without(text, name) for text, name in zip(listed, found, strict=True)]

        if self.text_encoder_3 is None:  # a call for fewer tokens in T5's place has none to give away
            settings["max_sequence_length"] = max(256, settings.get("max_sequence_length", 256))
        encoded: Any = super().encode_prompt(unnamed(prompt), unnamed(prompt_2), unnamed(prompt_3), *args, **settings)
        tokens = encoded[0]
        each = len(tokens) // len(texts)
        rows = [shown.get(name or "") for name in found for _ in range(each)]
        return (with_tokens(tokens, rows), *encoded[1:])


def without(text: str, name: str | None) -> str:
    """A prompt without the subject's name."""
    return text if name is None else " ".join(text.replace(name, " ").split())


def with_tokens(prompts: Tensor, rows: Sequence[Tensor | None]) -> Tensor:
    """Encoded prompts (b, l, d), each with its subject's tokens (n, d) in its last places, or as it is."""
    return torch.stack(
        [
            p if row is None else torch.cat([p[: len(p) - len(row)], row.to(p)])
            for p, row in zip(prompts, rows, strict=True)
        ]
    )
