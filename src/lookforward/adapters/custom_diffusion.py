"""Custom Diffusion (Kumari et al., 2023): a new word, and the keys and values of the denoiser's cross-attentions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from lookforward.adapters.textual_inversion import load_words, write_words
from lookforward.adapters.words import Word, add_words, remove_words, word_tables, words_of
from lookforward.core.protocols import Family
from lookforward.errors import LookforwardError
from lookforward.files import write_tensors
from lookforward.models.families import family_of
from lookforward.models.policy import DiffusionPolicy

WEIGHTS = "pytorch_custom_diffusion_weights.safetensors"  # diffusers' name for it
_PROJECTIONS = ("to_k", "to_v")


class TrainedProjection(nn.Module):
    """A key or value projection with trained weights in the place of the model's own, which are left as they are."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.weight = nn.Parameter(base.weight.detach().clone())

    def forward(self, words: Tensor) -> Tensor:
        """Encoded prompts (b, l, d) to keys or values (b, l, c)."""
        projected = functional.linear(words, self.weight, self.base.bias)
        # The start-of-text token is the same in every prompt: as in the authors' code, it gets no gradient
        return torch.cat([projected[:, :1].detach(), projected[:, 1:]], dim=1)


@dataclass(frozen=True)
class CustomDiffusionAdapter:
    """The key and value projections of all cross-attentions (19.2M in Stable Diffusion 1.4) and new words.

    The export is what diffusers' Custom Diffusion writes: the projections as attention processors, and the words.

    Raises:
        LookforwardError: when attached, see `add_words`.
    """

    words: tuple[Word, ...]

    changes_prompts = True

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        for module in policy.components.values():
            module.requires_grad_(False)
        parameters = add_words(policy.pipeline, self.words).named_rows()
        for name, attention in cross_attentions(policy.denoiser).items():
            for part in _PROJECTIONS:
                trained = TrainedProjection(getattr(attention, part))
                setattr(attention, part, trained)
                parameters[f"{policy.family.denoiser}.{name}.{part}.weight"] = trained.weight
        return parameters

    def detach(self, policy: DiffusionPolicy) -> None:
        for attention in cross_attentions(policy.denoiser).values():
            for part in _PROJECTIONS:
                trained = getattr(attention, part)
                if isinstance(trained, TrainedProjection):
                    setattr(attention, part, trained.base)
        remove_words(policy.pipeline)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        write_words(word_tables(policy.pipeline), folder)
        denoiser: Any = policy.denoiser
        crossing = cross_attentions(policy.denoiser)
        # diffusers needs a processor for each attention; an empty one has no weights
        empty = {
            name: torch.empty(0) for name in denoiser.attn_processors if name.removesuffix(".processor") not in crossing
        }
        write_tensors(folder / WEIGHTS, _named_weights(policy.denoiser) | empty, {"format": "pt"})


def build_custom_diffusion(settings: Any, _: torch.Generator) -> CustomDiffusionAdapter:
    """The adapter of a run's settings."""
    return CustomDiffusionAdapter(words_of(settings))


def usage(family: Family) -> list[str]:
    """The line that loads the projections of an export in plain diffusers."""
    return [f'pipeline.{family.denoiser}.load_attn_procs("FOLDER", weight_name="{WEIGHTS}", _pipeline=pipeline)']


def cross_attentions(denoiser: nn.Module) -> dict[str, Any]:
    """The attentions that look at the prompt, by name: 16 in Stable Diffusion 1 and 2."""
    return {name: module for name, module in denoiser.named_modules() if name.rpartition(".")[2] == "attn2"}


def _named_weights(denoiser: nn.Module) -> dict[str, Tensor]:
    """The projections' weights by their names in diffusers' file."""
    return {
        f"{name}.processor.{part}_custom_diffusion.weight": getattr(attention, part).weight
        for name, attention in cross_attentions(denoiser).items()
        for part in _PROJECTIONS
    }


def load_custom_diffusion(pipeline: Any, folder: Path, strength: float = 1.0) -> None:
    """Put an export into a pipeline: its words, and its projections in the place of the pipeline's own.

    A second export's projections take the place of the first one's; subjects that are to be drawn together are
    trained together.

    strength: 1 is what was learned, 0 the model before with the word that training began with.

    Raises:
        LookforwardError: the export cannot be read or is of another model; see `load_words` for its words.
    """
    path = folder / WEIGHTS
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        message = f"{path} cannot be read: {error}. Give the export's folder."
        raise LookforwardError(message, code="export-unreadable") from error
    weights = _named_weights(getattr(pipeline, family_of(pipeline).denoiser))
    trained = {name: tensor for name, tensor in tensors.items() if tensor.numel()}
    if trained.keys() != weights.keys() or any(trained[name].shape != w.shape for name, w in weights.items()):
        message = f"{path} does not fit this model's cross-attentions: give the model it was trained on."
        raise LookforwardError(message, code="export-misfit")
    load_words(pipeline, folder, strength)
    with torch.no_grad():
        for name, weight in weights.items():
            weight.lerp_(trained[name].to(weight), strength)
