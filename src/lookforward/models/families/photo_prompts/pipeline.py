"""Stable Diffusion that is shown the details of a subject beside the prompt, in the way of ELITE.

This file needs diffusers, safetensors and torch, and nothing else: an export carries a copy of it beside
`photo_prompt.safetensors`, and is loaded so:

    pipeline = DiffusionPipeline.from_pretrained(BASE, custom_pipeline="FOLDER/pipeline.py", trust_remote_code=True)
    pipeline.load_photo_prompt("FOLDER")

ELITE: Wei et al. 2023, "ELITE: Encoding Visual Concepts into Textual Embeddings for Customized Text-to-Image
Generation", arXiv 2302.13848. A subject is a word of the prompt, and details, which the cross-attentions read where
they look at that word:

    out = A V + λ (A_w / max A_w) softmax(Q K_lᵀ / √d) V_l,    K_l = W_k e, V_l = W_v e

A = softmax(Q Kᵀ / √d) looks at the prompt, A_w is its share for the word, e are the details, W_k and W_v belong to
the layer.

How they reach the layers. The conditioning of a prompt is (b, l + m + n, d) where plain Stable Diffusion has
(b, l, d): the encoded prompt; m rows that mark, in their first l numbers, the places of the word; and n details. A
prompt without the word has zeros in both. Conditioning of length l passes as it is.

b: prompts, l: tokens of a prompt, n: details, d: width of the text encoder.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

WEIGHTS = "photo_prompt.safetensors"


def cross_attentions(unet: nn.Module) -> dict[str, Any]:
    """The attentions that look at the prompt, by name."""
    return {name: module for name, module in unet.named_modules() if name.rpartition(".")[2] == "attn2"}


class DetailProjections(nn.Module):
    """W_k and W_v of each cross-attention. W_v begins with zeros, so that details add nothing before training.

    Args:
        widths: the width of each attention by its name. width: d, of the details.
    """

    def __init__(self, widths: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.widths, self.width = dict(widths), width
        self.to_k = nn.ModuleList(nn.Linear(width, inner, bias=False) for inner in widths.values())
        self.to_v = nn.ModuleList(nn.Linear(width, inner, bias=False) for inner in widths.values())
        values: Any = self.to_v
        for layer in values:
            nn.init.zeros_(layer.weight)

    @classmethod
    def of(cls, unet: nn.Module, width: int) -> "DetailProjections":
        """For the attentions of a UNet."""
        return cls({name: layer.to_q.out_features for name, layer in cross_attentions(unet).items()}, width)


class PhotoPrompt(nn.Module):
    """What photos say of subjects beside their words.

    Args:
        details: of each subject, by its identifier, e: (n, d), as many of each. projections: of the layers.
        strength: λ.
    """

    def __init__(self, details: Mapping[str, Tensor], projections: DetailProjections, strength: float = 1.0) -> None:
        super().__init__()
        self.identifiers, self.strength, self.projections = tuple(details), strength, projections
        self.details = nn.ParameterList([nn.Parameter(one) for one in details.values()])


class DetailAttention:
    """A cross-attention that looks at the prompt and, where it looks at the subject's word, at the details."""

    def __init__(self, index: int, length: int, prompt: PhotoPrompt) -> None:
        self.index, self.length, self.prompt, self.plain = index, length, prompt, AttnProcessor2_0()

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """(b, q, c) and (b, l + m + n, d) to (b, q, c)."""
        states, length = encoder_hidden_states, self.length
        if states is None or states.shape[1] <= length:
            return self.plain(attn, hidden_states, states, attention_mask, *args, **kwargs)
        marks = -(-length // states.shape[2])
        marked = states[:, length : length + marks].flatten(1)[:, None, None, :length]  # (b, 1, 1, l)
        text, details = states[:, :length], states[:, length + marks :]
        own: Any = self.prompt.projections

        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # (b, heads, ·, c / heads)

        q, k, v = split(attn.to_q(hidden_states)), split(attn.to_k(text)), split(attn.to_v(text))
        looks = (q @ k.transpose(-1, -2) * attn.scale).softmax(dim=-1)  # A: (b, heads, q, l)
        at_word = (looks * marked).sum(dim=-1, keepdim=True)  # A_w: (b, heads, q, 1)
        gate = at_word / at_word.amax(dim=2, keepdim=True).clamp(min=1e-6)
        seen = scaled_dot_product_attention(
            q, split(own.to_k[self.index](details)), split(own.to_v[self.index](details)), scale=attn.scale
        )
        out = looks.to(v.dtype) @ v + self.prompt.strength * gate.to(seen.dtype) * seen
        out = attn.to_out[0](out.transpose(1, 2).flatten(2))
        return attn.to_out[1](out) / attn.rescale_output_factor


class PhotoPromptPipeline(StableDiffusionPipeline):
    """`StableDiffusionPipeline` that can be shown photos of subjects. Without them it is the plain pipeline."""

    photo_prompt: PhotoPrompt | None = None

    def load_photo_prompt(self, path: str | Path, strength: float = 1.0) -> None:
        """Load the words and the details of an export's folder.

        strength: 0 is the model before, with the word that training began with; 1 as it was trained.

        Raises:
            ValueError: the file is of another model, or the pipeline has such a prompt, or one of its words, already.
        """
        if self.photo_prompt is not None:
            raise ValueError("the pipeline is shown photos already")
        with safe_open(str(Path(path) / WEIGHTS), "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if "subjects" not in about:
            raise ValueError("the file does not say which subjects it holds")
        subjects = json.loads(about["subjects"])
        layers = {name: layer.to_q.out_features for name, layer in cross_attentions(self.unet).items()}
        width = self.text_encoder.get_input_embeddings().weight.shape[1]
        if json.loads(about["layers"]) != layers or int(about["width"]) != width:
            raise ValueError("it was made for another model, with other layers")
        for name in subjects:
            if (word := tensors.get(f"word.{name}")) is not None:
                rows: Any = torch.lerp(tensors[f"initial.{name}"], word, strength)
                with torch.random.fork_rng(devices=[]):  # transformers draws new rows, which are set at once
                    self.text_encoder.resize_token_embeddings(len(self.tokenizer) + 1, mean_resizing=False)
                self.load_textual_inversion(rows, token=name)
        if f"details.{subjects[0]}" in tensors:
            projections = DetailProjections(layers, width)
            own = {name.removeprefix("projections."): one for name, one in tensors.items() if "projections." in name}
            projections.load_state_dict(own)
            details = {name: tensors[f"details.{name}"] for name in subjects}
            prompt = PhotoPrompt(details, projections, strength * float(about["strength"]))
            self.set_photo_prompt(prompt.requires_grad_(False))

    def set_photo_prompt(self, prompt: PhotoPrompt) -> None:
        """Show the pipeline details, of subjects whose words it knows, in the place of earlier ones."""
        self.unload_photo_prompt()
        self.photo_prompt = prompt.to(self.unet.device)
        self._plain = {}
        for i, (name, layer) in enumerate(cross_attentions(self.unet).items()):
            self._plain[name] = layer.processor
            layer.set_processor(DetailAttention(i, self.tokenizer.model_max_length, prompt))

    def unload_photo_prompt(self) -> None:
        """Forget the details; words stay. Without them, does nothing."""
        if self.photo_prompt is not None:
            for name, layer in cross_attentions(self.unet).items():
                layer.set_processor(self._plain[name])
            del self.photo_prompt, self._plain

    def encode_prompt(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str | list[str] | None,
        device: Any,
        num_images_per_prompt: int,
        do_classifier_free_guidance: bool,
        negative_prompt: str | list[str] | None = None,
        *args: Any,
        **settings: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """As that of diffusers; with details the conditioning is (b, l + m + n, d)."""
        tokens, negative = super().encode_prompt(
            prompt, device, num_images_per_prompt, do_classifier_free_guidance, negative_prompt, *args, **settings
        )
        if self.photo_prompt is None:
            return tokens, negative

        def texts(given: str | list[str] | None, count: int) -> list[str]:
            listed = [given or ""] if given is None or isinstance(given, str) else list(given)
            each = max(1, count // len(listed))
            return [text for text in listed for _ in range(each)]

        if tokens.shape[1] == self.tokenizer.model_max_length:
            tokens = self.with_details(tokens, texts(prompt, len(tokens)))
        if negative is not None and negative.shape[1] == self.tokenizer.model_max_length:
            negative = self.with_details(negative, texts(negative_prompt, len(negative)))
        return tokens, negative

    def with_details(self, text: Tensor, prompts: Sequence[str]) -> Tensor:
        """Encoded prompts (b, l, d) with the details of the first subject that each names: (b, l + m + n, d)."""
        assert self.photo_prompt is not None
        ids = self.tokenizer(
            self.maybe_convert_prompt(list(prompts), self.tokenizer),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        words = self.tokenizer.convert_tokens_to_ids(list(self.photo_prompt.identifiers))
        found = [next((i for i, word in enumerate(words) if word in row), None) for row in ids.tolist()]
        details = [one.to(text) for one in self.photo_prompt.details]
        nothing = torch.zeros_like(details[0])
        marks = torch.stack([row == words[i] if i is not None else row < 0 for row, i in zip(ids, found, strict=True)])
        return joined(text, marks, torch.stack([nothing if i is None else details[i] for i in found]))


def joined(text: Tensor, marks: Tensor, details: Tensor) -> Tensor:
    """Encoded prompts (b, l, d), places of the word (b, l) and details (b, n, d) to (b, l + m + n, d)."""
    length, width = text.shape[1:]
    rows = -(-length // width)
    padded = pad(marks.to(text), (0, rows * width - length)).unflatten(1, (rows, width))
    return torch.cat([text, padded, details.to(text)], dim=1)
