"""What to ask of Toybox's models: pictures and prompts whose right answers the world knows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lookforward.errors import LookforwardError
from lookforward_toybox.world.captions import OPENINGS, PATTERN_WORDS, emblem_words
from lookforward_toybox.world.edition import edition_of
from lookforward_toybox.world.outfits import OUTFITS
from lookforward_toybox.world.picture import LOOKS, draw_view, dressed
from lookforward_toybox.world.scenes import SCENES
from lookforward_toybox.world.subject import (
    BODY_COLOURS,
    CLASSES,
    EMBLEMS,
    LIVE_CLASSES,
    WorldSubject,
    draw_pretraining_subject,
    held_out,
)

SEED = 7  # of the held-out subjects' pictures


@dataclass(frozen=True)
class Request:
    """What an image is prompted to show."""

    class_noun: str
    colour: str
    scene: str
    outfit: str | None = None
    look: str | None = None
    emblem: str | None = None
    emblem_colour: str | None = None

    @property
    def prompt(self) -> str:
        emblem = emblem_words(self.emblem, self.emblem_colour) if self.emblem and self.emblem_colour else None
        outfit = self.outfit and OUTFITS[self.outfit]
        words = (self.look, self.colour, self.class_noun, emblem, outfit, SCENES[self.scene])
        return " ".join((OPENINGS[0], *filter(None, words)))


def draw_requests(count: int, seed: int = 0) -> list[Request]:
    """Class, colour and scene in the words of the pretraining captions, every class and scene equally often."""
    rng = np.random.default_rng(seed)
    scenes = list(SCENES)
    return [
        Request(
            CLASSES[i % len(CLASSES)],
            BODY_COLOURS[rng.integers(len(BODY_COLOURS))],
            scenes[i // len(CLASSES) % len(scenes)],
        )
        for i in range(count)
    ]


def draw_changes(count: int, seed: int = 0) -> tuple[list[Request], list[Request]]:
    """`count` requests for an accessory (cats and dogs), as many for a property (every class), in random scenes."""
    rng = np.random.default_rng([seed, 1])
    scenes, outfits = list(SCENES), list(OUTFITS)

    def at_random(noun: str, **change: str) -> Request:
        colour, scene = BODY_COLOURS[rng.integers(len(BODY_COLOURS))], scenes[rng.integers(len(scenes))]
        return Request(noun, colour, scene, **change)

    dressed = [at_random(LIVE_CLASSES[i % 2], outfit=outfits[i // 2 % len(outfits)]) for i in range(count)]
    return dressed, [at_random(CLASSES[i // 3 % len(CLASSES)], look=LOOKS[i % 3]) for i in range(count)]


def draw_emblems(count: int, seed: int = 0) -> list[Request]:
    """Requests as `draw_requests`, each for an emblem too, in another colour than the subject's."""
    rng = np.random.default_rng([seed, 2])
    asked = []
    for i, request in enumerate(draw_requests(count, seed)):
        colours = [colour for colour in BODY_COLOURS if colour != request.colour]
        colour = colours[rng.integers(len(colours))]
        asked.append(replace(request, emblem=EMBLEMS[i % len(EMBLEMS)], emblem_colour=colour))
    return asked


def draw_real(requests: Sequence[Request], seed: int = 1, size: int = 64) -> np.ndarray:
    """What the world itself draws for the requests: (n, size, size, 3) uint8. The judge's own ceiling."""
    rng = np.random.default_rng(seed)
    images = []
    for request in requests:
        while (subject := draw_pretraining_subject(rng, request.class_noun)).colour != request.colour:
            pass
        if request.emblem and request.emblem_colour:
            subject = replace(subject, emblem=request.emblem, emblem_colour=request.emblem_colour)
        view = dressed(draw_view(rng, request.scene), outfit=request.outfit, look=request.look)
        images.append(edition_of(size).draw(subject, view, rng, size))
    return np.stack(images)


def held_out_pictures(views: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of every held-out subject in different scenes: (n, size, size, 3) uint8, and whose they are (n,)."""
    rng = np.random.default_rng(SEED)
    scenes = list(SCENES)
    images, owners = [], []
    for i, subject in enumerate(held_out().values()):
        for scene in rng.permutation(len(scenes))[:views]:
            images.append(edition_of(size).draw(subject, draw_view(rng, scenes[scene]), rng, size))
            owners.append(i)
    return np.stack(images), np.array(owners)


def captioned_pictures(size: int = 64) -> tuple[np.ndarray, list[str]]:
    """Every held-out subject in every scene, scene by scene, and everything that a caption can say of each.

    Returns (scenes · subjects, size, size, 3) uint8 and as many captions.
    """
    rng = np.random.default_rng(SEED)
    images, texts = [], []
    for scene, words in SCENES.items():
        for subject in held_out().values():
            images.append(edition_of(size).draw(subject, draw_view(rng, scene), rng, size))
            texts.append(f"{OPENINGS[0]} {_in_words(subject)} {words}")
    return np.stack(images), texts


def _in_words(subject: WorldSubject) -> str:
    return " ".join(filter(None, (subject.colour, PATTERN_WORDS.get(subject.pattern), subject.class_noun)))


def retrieval(embeddings: torch.Tensor, owners: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    """How well unit embeddings (n, d) of pictures in different scenes separate their `owners` (n,).

    owners: each subject's pictures in a row, as many of each. classes: (n,) of each picture. Of every subject: top1,
    how often one of its pictures is nearest to its own among one picture of each subject, over all choices of these;
    same, class, different: mean cosine similarity to its other pictures, to its class (NaN for an only one), to others.
    """
    views = int(np.sum(owners == owners[0]))
    if not np.array_equal(owners, np.repeat(np.arange(len(owners) // views), views)):
        raise ValueError("owners must be 0, 0, …, 1, 1, …, each as often.")
    similarity = (embeddings @ embeddings.T).double().numpy()
    subjects = len(owners) // views
    # (subject, its view, subject, its view)
    table = similarity.reshape(subjects, views, subjects, views)
    nearest = table.argmax(axis=2)  # (subject, its view, the gallery's view)
    hits = nearest == np.arange(subjects)[:, None, None]
    own, itself = owners[:, None] == owners[None], np.eye(len(owners), dtype=bool)
    kin = classes[:, None] == classes[None]

    def of_subjects(chosen: np.ndarray) -> np.ndarray:
        total = np.where(chosen, similarity, 0).reshape(subjects, -1).sum(axis=1)
        count = chosen.reshape(subjects, -1).sum(axis=1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    return {
        "top1": hits[:, ~np.eye(views, dtype=bool)].mean(axis=1),
        "same": of_subjects(own & ~itself),
        "class": of_subjects(kin & ~own),
        "different": of_subjects(~kin),
    }


def subject_classes() -> np.ndarray:
    """Class of each held-out subject, in their order."""
    return np.array([subject.class_noun for subject in held_out().values()])


def named_right(images: torch.Tensor, texts: torch.Tensor, captions: Sequence[str]) -> np.ndarray:
    """Whether the nearest one of the texts (n, d) is the image's own, (n,): images (n, d) belong to texts in order.

    captions: what the texts say; equal ones are each other's right answers.
    """
    nearest = (images @ texts.T).argmax(dim=1).tolist()
    return np.array([captions[i] == caption for i, caption in zip(nearest, captions, strict=True)])


def require_weights(folder: Path) -> None:
    """Say what to do where the models are not there yet."""
    if not folder.is_dir():
        raise LookforwardError(
            f"{folder} is missing: train the stage first with `lookforward toybox train`.",
            code="toybox-weights-missing",
        )
