"""A diffusers pipeline as a deterministic policy (Eq. 2)."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lookforward.core.types import Conditioning, State
from lookforward.models.families import family_of
from lookforward.models.families.words import written_out
from lookforward.models.placement import Placement, is_offloaded, keeping_weights

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class DiffusionPolicy:
    """π_θ and τ of one pipeline. The pipeline's modules are held, not copied: training changes them.

    Args:
        pipeline: one of a family in `models.families`.
        precision: what the model computes in ("fp32" or "bf16"); trained weights stay in single precision, and so does
            everything that is made of its output.
        resolution: side of the images in pixels; None: the model's own.

    Attributes:
        family: what differs from one architecture to another. denoiser: the network. text_encoders: those that the
        pipeline has, by its own names. placement: which parts rest in the CPU's memory. path, prediction: what the
        model was trained on, and to predict; `path.of(latents)` at the size of those.
    """

    def __init__(self, pipeline: Any, precision: str = "fp32", resolution: int | None = None) -> None:
        self.pipeline, self.family = pipeline, family_of(pipeline)
        self.denoiser: nn.Module = getattr(pipeline, self.family.denoiser)
        found = {name: getattr(pipeline, name, None) for name in self.family.text_encoders}
        self.text_encoders: dict[str, nn.Module] = {name: one for name, one in found.items() if one is not None}
        self.path, self.prediction = self.family.path(pipeline, resolution), self.family.prediction(pipeline)
        self.dtype = PRECISIONS[precision]
        self.placement = Placement(pipeline, self.device)
        self.offloaded = is_offloaded(self.denoiser)

    @property
    def components(self) -> dict[str, nn.Module]:
        """What can be trained, by the pipeline's own names: the denoiser, then the text encoders."""
        return {self.family.denoiser: self.denoiser, **self.text_encoders}

    @property
    def device(self) -> torch.device:
        return (
            getattr(self.denoiser, "device", None) or next(self.denoiser.parameters()).device
        )  # or of offloaded blocks

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """τ(y): b texts, encoded as the pipeline encodes them itself when it draws; float32."""
        with self.placement.awake(self.text_encoders), self._autocast():
            return self.family.encode_prompts(self.pipeline, prompts)

    def act(self, state: State) -> Tensor:
        """o, the model's own output: (b, c, h, w) float32."""
        _, noise_level = self.path.of(state.x_t).at(state.timestep)
        with self._autocast(), keeping_weights() if self.offloaded else nullcontext():
            return self.family.denoise(self.denoiser, state, noise_level).float()

    @property
    def prompt_length(self) -> int:
        """How many tokens of a prompt the model reads, without the marks of its start and end."""
        return self.family.prompt_tokenizer(self.pipeline)[1]

    def count_tokens(self, text: str) -> list[int]:
        """The tokens of a text, without the marks of its start and end."""
        written = written_out(self._tokenizer, [text])[0] if self.family.word_files else text
        return self._tokenizer(written, add_special_tokens=False).input_ids

    def known_tokens(self, text: str) -> list[int]:
        """The same without unknown pieces, which become the end-of-text token and say nothing."""
        silent = set(self._tokenizer.all_special_ids)
        return [token for token in self.count_tokens(text) if token not in silent]

    @property
    def _tokenizer(self) -> Any:
        return self.family.prompt_tokenizer(self.pipeline)[0]

    def _autocast(self) -> AbstractContextManager[object]:
        if self.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)
