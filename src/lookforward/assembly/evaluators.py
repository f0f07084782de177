"""The encoders and scores by which finished images are evaluated."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lookforward.bundle import bundled_model
from lookforward.core.protocols import Score
from lookforward.core.specs import Resources, ScoreSpec, find_spec
from lookforward.errors import LookforwardError
from lookforward.models.encoders import Encoders, to_unit
from lookforward.models.encoders.perceptual import require_package
from lookforward.models.load_pipeline import find_device
from lookforward.rewards.call import CallableReward, load_callable
from lookforward.scores import SCORES
from lookforward.scores.measure import MeasureScore

_FUNCTION_BATCH = 16  # images at a time that a user's function sees: there may be a network in it
_OF_ANY_MODEL = ("preference:", "judge:")  # rewards that mark the scores of their kind, whatever the model
_PUBLISHED = {
    "dino": "facebook/dino-vits16",
    "clip": "openai/clip-vit-base-patch32",
    "dinov2": "facebook/dinov2-small",
    "pickscore": "yuvalkirstain/PickScore_v1",
    "hpsv2": "adams-story/HPSv2-hf",
    "judge": "HuggingFaceTB/SmolVLM-500M-Instruct",
}


@dataclass(frozen=True)
class Evaluators:
    """What images are scored with. extra: names of scores on request, and module:function for one of the user's own."""

    encoders: Encoders
    extra: tuple[str, ...] = ()

    @property
    def specs(self) -> tuple[ScoreSpec, ...]:
        """The scores to take, in their order; functions come after them."""
        return tuple(
            spec for spec in SCORES
            if (spec.name in self.extra if spec.on_request else spec.encoder in ("", *self.encoders.names))
        )  # fmt: skip


def encoder_sources(model: str, **others: str | None) -> dict[str, str]:
    """The folder or hub id of each encoder that belongs to a model; `others` take the place of its own.

    An encoder named identity is for evaluation only.
    """
    bundled = bundled_model(model)
    own = {name: str(folder) for name, folder in bundled.encoders.items()} if bundled else {}
    return _PUBLISHED | own | {name: source for name, source in others.items() if source}


def build_evaluators(
    model: str, *, device: str = "auto", extra: Sequence[str] = (), **others: str | None
) -> Evaluators:
    """The benchmark's scores, taken with ViT-S/16 DINO and ViT-B/32 CLIP, or the bundled model's own
    encoders.

    extra: names of further scores, or module:function for a score of one's own. others: see `encoder_sources`; they
    preprocess as their authors do.

    Raises:
        LookforwardError: a model cannot be loaded, or a package is missing.
    """
    sources = encoder_sources(model, **others)
    evaluators = Evaluators(Encoders(sources, find_device(device), published=True), tuple(extra))
    for spec in evaluators.specs:
        if spec.encoder:
            getattr(evaluators.encoders, spec.encoder)  # what cannot be loaded is an error now, not after the training
    return evaluators


def build_scores(evaluators: Evaluators, references: np.ndarray, drawing: np.ndarray | None = None) -> list[Score]:
    """The scores of one subject.

    references: (k, h, w, 3) uint8; drawing: the subject alone, (h, w, 4) in [0, 1], where the world knows it.
    """
    given = Resources(
        evaluators.encoders,
        to_unit(references),
        None if drawing is None else torch.from_numpy(drawing).permute(2, 0, 1),
    )
    scores = [spec.build(given) for spec in evaluators.specs if drawing is not None or not spec.needs_drawing]
    functions = [CallableReward(load_callable(name), name) for name in evaluators.extra if ":" in name]
    return scores + [MeasureScore(one.name, one.measure, _FUNCTION_BATCH) for one in functions]


def check_extra_scores(extra: Sequence[str], images: int) -> None:
    """Find what is wrong with the names of extra scores before anything runs. images: of each prompt.

    Raises:
        LookforwardError: there is no such score or function, its package is missing, or there is nothing to compare.
    """
    for name in extra:
        if ":" in name:
            load_callable(name)
            continue
        known = [spec for spec in SCORES if spec.on_request]
        spec = find_spec(known, name, "extra score", ", and module:function for one of your own")
        if spec.package:
            require_package(spec.package)
        if images < spec.images:
            raise LookforwardError(
                f"The score {name} compares images of one prompt: give --images {spec.images} or more.",
                code="images-too-few",
            )


def scores_trained_on(rewards: Iterable[str], sources: Mapping[str, str], extra: Sequence[str] = ()) -> tuple[str, ...]:
    """Labels of the scores that are no evidence for a model trained on these rewards, as they look the same way.

    sources: `encoder_sources` of the scores. extra: names of the extra scores, functions among them.
    """
    names = set(rewards)
    names |= {name.partition(":")[0] for name in names if name.startswith(_OF_ANY_MODEL)}
    labels = [
        spec.label for spec in SCORES
        if names & {*spec.rewards, *([f"embedding:{sources.get(spec.encoder)}"] if "embedding" in spec.rewards else ())}
    ]  # fmt: skip
    return (*labels, *(name for name in extra if ":" in name and name in names))
