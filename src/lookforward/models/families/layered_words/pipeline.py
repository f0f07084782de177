"""Stable Diffusion with a learned word that looks different to each cross-attention layer, and at each timestep.

This file and `embeddings.py` need diffusers, transformers, safetensors and torch, and nothing else: an export carries
a copy of both beside `learned_embeds.safetensors`, and is loaded so:

    pipeline = DiffusionPipeline.from_pretrained(BASE, custom_pipeline="FOLDER/pipeline.py", trust_remote_code=True)
    pipeline.load_word("FOLDER")

Two kinds of word: P+ (Voynov et al. 2023, "P+: Extended Textual Conditioning in Text-to-Image Generation", arXiv
2303.09522), one vector for each layer; and NeTI (Alaluf et al. 2023, "A Neural Space-Time Representation for
Text-to-Image Personalization", arXiv 2305.15391), a small network from timestep and layer to a vector.

How a prompt reaches the layers. The conditioning of one prompt is a row of n parts, one for each cross-attention
layer: (b, n·l, d) where plain Stable Diffusion has (b, l, d). A hook before each layer cuts out its own part. With P+
the parts are what comes out of the text encoder. With NeTI they are, n times, what goes into it, zeros where the
learned word stands: a hook before the UNet, which knows the timestep, makes of it what comes out. Anything else that
is handed to the UNet, of length l, is conditioning without the word and passes as it is.

b: prompts, n: cross-attention layers, l: tokens of a prompt, d: width of the text encoder.
"""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from torch import Tensor, nn

from .embeddings import LayerWords, SpaceTimeWords

WEIGHTS = "learned_embeds.safetensors"


def cross_attentions(unet: nn.Module) -> dict[str, nn.Module]:
    """The cross-attention layers by name, as an image passes them: down, middle, up."""
    blocks = ("down_blocks", "mid_block", "up_blocks")  # diffusers names the middle last
    found = [(name, module) for name, module in unet.named_modules() if name.rpartition(".")[2] == "attn2"]
    return dict(sorted(found, key=lambda pair: blocks.index(pair[0].partition(".")[0])))  # a stable sort


class LayeredWordPipeline(StableDiffusionPipeline):
    """`StableDiffusionPipeline` that can learn one word more. Without one it is the plain pipeline."""

    identifier = ""  # the word as prompts write it
    embedding: LayerWords | SpaceTimeWords | None = None

    def load_word(self, path: str | Path, strength: float = 1.0) -> None:
        """Load a word from its file, or from the folder that it lies in, in the place of an earlier one.

        strength: 0 is the word that it began with, 1 the learned one.

        Raises:
            ValueError: the file holds no such word, or one of another model.
        """
        file = Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
        with safe_open(str(file), "pt") as opened:
            about: dict[str, str] = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        kinds = {kind.kind: kind for kind in (LayerWords, SpaceTimeWords)}
        if about.get("kind") not in kinds:
            raise ValueError(f"{file} holds no learned word of P+ or NeTI")
        width = self.text_encoder.get_input_embeddings().weight.shape[-1]
        if json.loads(about["layers"]) != list(cross_attentions(self.unet)) or len(tensors["initial"]) != width:
            raise ValueError(f"{file} was learned on another model, with other layers")
        embedding = kinds[about["kind"]].restore(tensors, about)
        embedding.requires_grad_(False)
        embedding.strength = strength
        self.set_word(about["word"], embedding)

    def set_word(self, identifier: str, embedding: LayerWords | SpaceTimeWords) -> None:
        """Give the pipeline a word, in the place of an earlier one. Nothing of the model itself is changed."""
        self.unload_word()
        layers = cross_attentions(self.unet)
        self._plain_tokenizer = self.tokenizer
        self.tokenizer = copy.deepcopy(self.tokenizer)
        self.tokenizer.add_tokens([identifier])
        self.identifier, self.embedding = identifier, embedding.to(self.unet.device)
        self._word_id, self._count = self.tokenizer.convert_tokens_to_ids(identifier), len(layers)
        self._hooks = [
            layer.register_forward_pre_hook(self._cut_out(i), with_kwargs=True)
            for i, layer in enumerate(layers.values())
        ]
        if embedding.needs_timestep:
            self._hooks.append(self.unet.register_forward_pre_hook(self._encode_at_timestep, with_kwargs=True))

    def unload_word(self) -> None:
        """Forget the word; without one, does nothing."""
        if self.embedding is None:
            return
        for hook in self._hooks:
            hook.remove()
        self.tokenizer = self._plain_tokenizer
        for name in ("identifier", "embedding", "_hooks", "_plain_tokenizer", "_word_id", "_count"):
            delattr(self, name)

    def encode_prompt(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str | list[str] | None,
        device: Any,
        num_images_per_prompt: int,
        do_classifier_free_guidance: bool,
        negative_prompt: str | list[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        **settings: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """As that of diffusers, but with a learned word the conditioning is (b, n·l, d), for n layers in a row."""
        if self.embedding is not None:
            if settings.get("clip_skip") is not None:
                raise ValueError("clip_skip cannot be used with a learned word")
            if prompt_embeds is None:
                prompt_embeds = self._condition([prompt] if isinstance(prompt, str) else list(prompt or ()))
            if do_classifier_free_guidance and negative_prompt_embeds is None:
                count = 1 if isinstance(prompt, str) else len(prompt_embeds if prompt is None else prompt)
                negative = negative_prompt or ""
                negative = [negative] * count if isinstance(negative, str) else negative
                negative_prompt_embeds = self._condition(negative)
        return super().encode_prompt(
            prompt, device, num_images_per_prompt, do_classifier_free_guidance, negative_prompt,
            prompt_embeds, negative_prompt_embeds, **settings,
        )  # fmt: skip

    def _condition(self, prompts: Sequence[str]) -> Tensor:
        """b prompts to (b, n·l, d)."""
        assert self.embedding is not None
        tokens = self.tokenizer(
            self.maybe_convert_prompt(list(prompts), self.tokenizer),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids.to(self.text_encoder.device)
        learned = tokens == self._word_id  # (b, l)
        known = self.text_encoder.get_input_embeddings()(tokens.masked_fill(learned, 0))
        inputs = known.masked_fill(learned[..., None], 0)  # (b, l, d)
        if self.embedding.needs_timestep:
            return inputs.repeat(1, self._count, 1)
        return self._encode_inputs(inputs, torch.zeros(len(inputs), device=inputs.device))

    def _encode_inputs(self, inputs: Tensor, timestep: Tensor) -> Tensor:
        """What goes into the text encoder, (b, l, d), to what comes out of it for each layer, (b, n·l, d)."""
        learned = (inputs == 0).all(dim=-1)  # (b, l): no known token's embedding is zero
        rows = learned.any(dim=1)  # (b,)
        made = inputs.new_empty(len(inputs), self._count * inputs.shape[1], inputs.shape[2])
        if not bool(rows.all()):
            made[~rows] = self._encode(inputs[~rows]).repeat(1, self._count, 1).to(made.dtype)
        if bool(rows.any()):
            assert self.embedding is not None
            words, bypass = self.embedding.to(inputs.device)(timestep[rows])  # (m, n, d)
            here = learned[rows][:, None, :, None]  # (m, 1, l, 1)
            full = torch.where(here, words[:, :, None].to(inputs.dtype), inputs[rows][:, None])  # (m, n, l, d)
            out = self._encode(full.flatten(0, 1)).unflatten(0, full.shape[:2])
            if bypass is not None:
                added = bypass[:, :, None].to(out.dtype) * out.norm(dim=-1, keepdim=True)
                out = torch.where(here, out + added, out)
            made[rows] = out.flatten(1, 2).to(made.dtype)
        return made

    def _encode(self, inputs: Tensor) -> Tensor:
        """The text encoder on vectors in the place of tokens, (b, l, d) to (b, l, d)."""
        hook = self.text_encoder.get_input_embeddings().register_forward_hook(lambda *_: inputs)
        try:
            tokens = torch.zeros(inputs.shape[:2], dtype=torch.int64, device=inputs.device)  # their number alone counts
            return self.text_encoder(tokens)[0]
        finally:
            hook.remove()

    def _encode_at_timestep(self, unet: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """Before the UNet: prompts that are not encoded yet are, for the timestep it is called with."""
        names = ("sample", "timestep", "encoder_hidden_states")
        call = dict(zip(names, args, strict=False)) | kwargs
        states = call["encoder_hidden_states"]
        length = self.tokenizer.model_max_length
        if states.shape[1] != self._count * length:
            return None
        timestep = torch.as_tensor(call["timestep"], device=states.device).expand(len(states))
        call["encoder_hidden_states"] = self._encode_inputs(states[:, :length], timestep)
        return args[3:], call

    def _cut_out(self, index: int) -> Callable[..., Any]:
        """A hook before layer `index` that gives it its own part of the conditioning."""

        def hook(layer: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
            states, length = kwargs.get("encoder_hidden_states"), self.tokenizer.model_max_length
            if states is not None and states.shape[1] == self._count * length:
                kwargs = kwargs | {"encoder_hidden_states": states[:, index * length : (index + 1) * length]}
            return args, kwargs

        return hook
