"""What a plug-in says of itself, once: one frozen dataclass for each kind of plug-in.

A package lists its specs in a plain tuple: `adapters.ADAPTERS`, `rewards.REWARDS`, `scores.SCORES`. Command line,
documentation, checks, card, report and exports read them there. Importing the tuples imports no torch: a builder
imports what it needs when it is called. Model families follow the protocol `Family` in `core.protocols`; they are
listed in `models.families.FAMILIES`.

Another distribution adds a plug-in by an entry point that names its spec:

    [project.entry-points."lookforward.rewards"]
    sharpness = "my_package.sharpness:SHARPNESS"
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lookforward.errors import LookforwardError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lookforward.core.protocols import Adapter, Family, Reward, Score


@dataclass(frozen=True)
class ExportFormat:
    """Another program's layout of an export.

    name: as in `--format`, "kohya". write: from (export folder, empty target folder, name of the result, what prompts
    call the subject, the model's family) to files; it raises LookforwardError where the family has no such layout.
    loading: how to load them, in Markdown; {name} is the name of the result.
    named_by_file: whether prompts there call the subject by the name of the file.
    """

    name: str
    write: Callable[[Path, Path, str, str, Family], None]
    loading: str
    named_by_file: bool = False


@dataclass(frozen=True)
class AdapterSpec:
    """A choice of what is trained.

    name: as in `adapter.name` and in manifests, "lora". label: for tables and cards, "LoRA". help: what is trained.
    build: from a run's settings and a CPU generator, the adapter's only source of random numbers, to the adapter;
        it raises LookforwardError for numbers out of range.
    usage: lines of Python that put the export in the folder FOLDER into a plain diffusers `pipeline` of the base model,
        from the identifiers that it was trained on and the model's family. pipeline_options: what `from_pretrained`
        needs besides the base model.
    load: puts the export in a folder into a pipeline, at a strength (0: the untouched model, 1: as trained); None for
        an export that is a whole pipeline.
    merge: as `load`, but into the pipeline's own weights; None for a whole pipeline, or where `unmergeable` says why.
    formats: what `lookforward export --format` writes beside "diffusers", the export itself, "merged" and "checkpoint".
    defaults: tables of settings as in a recipe, "family" tables among them; they go over the recipe's.
    settings: dotted names of the settings that only this adapter and its like read.
    learns_word: whether the identifier becomes a token of its own. only_words: whether that is all that is trained.
    several_subjects: whether it can learn several subjects at once. replaces: whether a second export of it, put into
        the same pipeline, takes the place of the first one's.
    needs: what a model's family must offer (`Family.capabilities`), such as "cross-attention" or "learned-words".
    frozen: which of the pipeline's own weights it leaves as they are, "denoiser" or "text encoders", so that they may
        be in low precision.
    dpok: whether DPOK, which stays near to what the untouched denoiser does with the same prompts, can train it.
    package: a package that must be installed. tag: on the model hub, instead of the name.
    """

    name: str
    label: str
    help: str
    build: Callable[[Any, torch.Generator], Adapter]
    usage: Callable[[Sequence[str], Family], list[str]]
    pipeline_options: str = ""
    load: Callable[[Any, Path, float], object] | None = None
    merge: Callable[[Any, Path, float], object] | None = None
    unmergeable: str = ""
    formats: tuple[ExportFormat, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    learns_word: bool = False
    only_words: bool = False
    several_subjects: bool = True
    replaces: bool = False
    needs: frozenset[str] = frozenset()
    frozen: frozenset[str] = frozenset()
    dpok: bool = True
    package: str = ""
    tag: str = ""

    @property
    def is_whole_model(self) -> bool:
        """Whether its export is a whole pipeline, and not something to put into one."""
        return self.load is None

    @property
    def format_names(self) -> tuple[str, ...]:
        """What `lookforward export --format` takes for it."""
        merged = () if self.unmergeable else ("merged", "checkpoint")
        return ("diffusers", *(one.name for one in self.formats), *merged)


@dataclass(frozen=True)
class RewardSpec:
    """Something that a transition can be rewarded for; training only.

    name: as users write it in `objective.reward`, "dino"; what precedes the colon if it `takes_argument`.
    label: for tables. help: what it looks at. range: the values it can take. source: where it is from.
    build: from the name as the user wrote it and what a reward may ask for to the reward.
    encoder: which of `models.encoders.Encoders` it looks with.
    needs_image: whether x_0_hat must be decoded first. differentiable: whether `objective.reward_gradient = direct` and
        DRaFT can use it. per_subject: whether it holds the reference photos of one subject.
    package: a package that must be installed. takes_argument: what follows the colon, "MODEL".
    """

    name: str
    label: str
    help: str
    build: Callable[[str, Resources], Reward]
    range: str = "any"
    source: str = ""
    encoder: str = ""
    needs_image: bool = True
    differentiable: bool = True
    per_subject: bool = False
    package: str = ""
    takes_argument: str = ""

    @property
    def written(self) -> str:
        """As users write it: "dino", "embedding:MODEL"."""
        return f"{self.name}:{self.takes_argument}" if self.takes_argument else self.name


@dataclass(frozen=True)
class ScoreSpec:
    """Something that finished images are scored by; evaluation only, never training.

    name: as users ask for it, "dinov2". label: as tables show it, "DINOv2", the name of the `Score`. help: one
    sentence. build: from what a score may ask for to the score.
    on_request: whether it is taken only where the user asks for it. encoder: which of `models.encoders.Encoders` it
        looks with; where the model has none of that name, it is left out.
    needs_drawing: whether it is left out where the world does not know the subject's drawing.
    images: how many images of one prompt it needs at least. package: a package that must be installed.
    rewards: names of rewards of the same encoder or distance, after which it is no evidence.
    """

    name: str
    label: str
    help: str
    build: Callable[[Resources], Score]
    on_request: bool = False
    encoder: str = ""
    needs_drawing: bool = False
    images: int = 1
    package: str = ""
    rewards: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resources:
    """What rewards and scores may ask for.

    encoders: a `models.encoders.Encoders`, which loads each once. photos: of one subject, (k, 3, h, w) in [0, 1].
    drawing: the subject alone, (4, s, s) RGBA in [0, 1], where the world knows it.
    """

    encoders: Any
    photos: Tensor
    drawing: Tensor | None = None


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Spec = TypeVar("Spec", bound=_Named)


def installed(group: str) -> tuple[Any, ...]:
    """The specs of other distributions, by the entry points of a group such as "lookforward.rewards"."""
    return tuple(point.load() for point in sorted(entry_points(group=group), key=lambda point: point.name))


def find_spec(specs: Iterable[Spec], name: str, kind: str, others: str = "") -> Spec:
    """The spec of a name. kind: "adapter", "reward" or "score". others: what may be written besides, for the message.

    Raises:
        LookforwardError: "adapter-unknown" and the like; the message has the nearest name, and all names.
    """
    known = {spec.name: spec for spec in specs}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    message = f"There is no {kind} {name!r}. {hint}There are: {', '.join(known)}{others}."
    raise LookforwardError(message, code=f"{kind}-unknown")
