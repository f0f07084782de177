"""What a plug-in says of itself, once, in its own file: one frozen dataclass for each kind of plug-in.

A package lists its specs in a plain tuple: `adapters.ADAPTERS`, `rewards.REWARDS`, `scores.SCORES`. Command line,
documentation, checks, card, report and exports read them there; to add a plug-in is to write its file and its test,
and to name its spec in the tuple. Model families follow the protocol `Family` in `core.protocols`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lookforward.core.protocols import Adapter, Reward, Score


@dataclass(frozen=True)
class AdapterSpec:
    """A way to make parts of a model trainable.

    name: as in `adapter.name` and in manifests, "lora". label: for tables and cards, "LoRA". help: one sentence.
    build: from a run's settings and a CPU generator, the adapter's only source of random numbers, to the adapter;
        it raises LookforwardError for numbers out of range.
    load: puts the export in a folder into a pipeline, at a strength (0: the untouched model, 1: as trained); None for
        an export that is a whole model.
    merge: as `load`, but into the pipeline's own weights; None where no plain pipeline folder can hold the result.
    settings: dotted names of the settings that only this adapter and its like read, to note those that change nothing.
    defaults: dotted settings that it wants, over a recipe's and under the user's.
    learns_word: whether it learns a word of its own, so that the identifier must be new to the tokenizer.
    several_subjects: whether it can learn several subjects at once.
    trains_text_encoder: whether `adapter.train_text_encoder` has a meaning for it.
    needs: what a model's family must offer (`Family.capabilities`), such as "cross-attention" or "learned-words".
    dpok: whether DPOK, which stays near to what the untouched denoiser does with the same prompts, can train it.
    formats: other programs' layouts that `convert` can write of its export, such as "kohya".
    usage: Python lines for plain diffusers, put into the export's card; {base} and {folder} are replaced.
    """

    name: str
    label: str
    help: str
    build: Callable[[Any, torch.Generator], Adapter]
    load: Callable[[Any, Path, float], object] | None = None
    merge: Callable[[Any, Path, float], object] | None = None
    settings: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    learns_word: bool = False
    several_subjects: bool = True
    trains_text_encoder: bool = False
    needs: frozenset[str] = frozenset()
    dpok: bool = True
    formats: tuple[str, ...] = ()
    usage: str = ""


@dataclass(frozen=True)
class RewardSpec:
    """Something that a transition can be rewarded for; training only.

    name: as users write it in `objective.reward`, "dino"; with `takes_argument`, what stands before the colon.
    label: for tables. help: one sentence. range: the values it can take, "[-1, 1]".
    build: from the name as the user wrote it and what a reward may ask for (`Resources`) to the reward.
    needs_image: whether x_0_hat must be decoded first. differentiable: whether `reward_gradient = direct` and DRaFT can
        use it. references: whether it holds the reference photos of one subject.
    package: a package that must be installed, or "". takes_argument: "embedding:MODEL".
    check: raises LookforwardError for an argument that cannot be used, before anything is loaded.
    optimises: names of the scores that are no evidence for a model that was trained on this reward.
    """

    name: str
    label: str
    help: str
    build: Callable[[str, "Resources"], Reward]
    range: str = "(-∞, ∞)"
    needs_image: bool = False
    differentiable: bool = True
    references: bool = False
    package: str = ""
    takes_argument: bool = False
    check: Callable[[str], None] | None = None
    optimises: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoreSpec:
    """Something that finished images are scored by; evaluation only, never training.

    name: as users write it after `--score` and as column of tables. label: as tables show it, "CLIP-T". help: one
    sentence. build: from what a score may ask for to the score. higher_is_better: its direction.
    when: "always", "asked" (only if the user asks for it) or "world" (only where the subject was drawn and is known).
    package: a package that must be installed, or "". images: how many images of one prompt it needs at least.
    """

    name: str
    label: str
    help: str
    build: Callable[["Resources"], Score]
    higher_is_better: bool = True
    when: Literal["always", "asked", "world"] = "always"
    package: str = ""
    images: int = 1


@dataclass(frozen=True)
class Resources:
    """What rewards and scores may ask for.

    model: the run's model, whose own encoders serve where it has some. photos: of one subject, (k, 3, h, w) in [0, 1].
    load: `load(loader, source)` calls `loader(source, device)` once, however many rewards and subjects ask for it.
    options: further facts, such as the world's drawing of the subject.
    """

    model: str
    photos: Tensor
    load: Callable[[Callable[..., Any], str], Any]
    options: Mapping[str, Any] = field(default_factory=dict)
