"""Draw a data set of Toybox's world to train on: `images.npy`, `captions.json` and `subjects.json`."""

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lookforward.errors import LookforwardError
from lookforward.files import atomic_file, write_json
from lookforward_toybox.world.captions import caption
from lookforward_toybox.world.edition import EDITION_64, EDITIONS, Edition
from lookforward_toybox.world.picture import draw_any_view
from lookforward_toybox.world.subject import CLASSES, LIVE_CLASSES, draw_pretraining_subject

CAPTIONS_PER_IMAGE = 4
DRAWN = CLASSES + LIVE_CLASSES  # cats and dogs twice as often: they have ten outfits to be seen in
LEAST = 4  # pictures: two to train on and two to measure on
WORLD = Path(__file__).parent / "world"
CHUNK = 500  # view pairs drawn from one seed, whatever the number of workers


def draw_world(
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    edition: Edition = EDITION_64,
    workers: int = 2,
    show: Callable[[int], None] = lambda drawn: None,
) -> None:
    """Draw `count` pictures into `folder`, the same ones whatever the number of workers.

    Pictures 2k and 2k+1 show one subject in two views. `images.npy` is (count, s, s, 3) uint8, s the edition's side,
    `captions.json` has four captions for each picture and `subjects.json` what the world knows of it.
    Each finished chunk is kept in `folder` until the last one is drawn: an interrupted drawing goes on where it was.
    show: called with the number of pictures so far.

    Raises:
        LookforwardError: the numbers make no sense.
    """
    size = edition.size
    if count < LEAST or workers < 1:
        raise LookforwardError(
            f"Draw {LEAST} pictures or more (not {count}), by 1 worker or more (not {workers}).", code="option-range"
        )
    if seed < 0:
        raise LookforwardError(f"--seed {seed}: give 0 or more.", code="option-range")
    folder.mkdir(parents=True, exist_ok=True)
    count += count % 2
    captions: list[list[str]] = []
    facts: list[dict[str, object]] = []
    parts = folder / _name_of_parts(seed, size)
    parts.mkdir(exist_ok=True)
    jobs = [(parts, seed, start, min(CHUNK, count // 2 - start), size) for start in range(0, count // 2, CHUNK)]
    # Atomic, so that nothing trains on the black rest of a half
    with ProcessPoolExecutor(workers) as pool, atomic_file(folder / "images.npy") as unfinished:
        images = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (count, size, size, 3))
        for (_, _, start, pairs, _), path in zip(jobs, pool.map(_keep_chunk, jobs), strict=True):
            pixels, words, known = _read_chunk(path)
            images[2 * start : 2 * (start + pairs)] = pixels
            captions += words
            facts += known
            show(len(captions))
        images.flush()
        write_json(folder / "captions.json", captions)
        write_json(folder / "subjects.json", facts)
    shutil.rmtree(parts)


def _name_of_parts(seed: int, size: int) -> str:
    """A folder's name that changes with the world's code, so that no two worlds are mixed."""
    digest = hashlib.sha256(f"{seed} {size}".encode())
    for path in sorted(WORLD.rglob("*.py")):
        digest.update(path.read_bytes())
    return f"parts-{digest.hexdigest()[:12]}"


def _keep_chunk(job: tuple[Path, int, int, int, int]) -> Path:
    """The file of a chunk, drawn unless it is there."""
    parts, seed, start, pairs, size = job
    path = parts / f"{start}-{pairs}.npz"
    if not path.is_file():
        pixels, words, known = _draw_chunk((seed, start, pairs, size))
        text = np.frombuffer(json.dumps([words, known]).encode(), np.uint8)
        with atomic_file(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, pixels=pixels, text=text)
    return path


def _read_chunk(path: Path) -> tuple[np.ndarray, list[list[str]], list[dict[str, object]]]:
    with np.load(path) as kept:
        words, known = json.loads(kept["text"].tobytes())
        return kept["pixels"], words, known


def _draw_chunk(
    job: tuple[int, int, int, int],
) -> tuple[np.ndarray, list[list[str]], list[dict[str, object]]]:
    seed, start, pairs, size = job
    edition = EDITIONS[size]
    rng = np.random.default_rng((seed, start))
    images, captions, facts = [], [], []
    for _ in range(pairs):
        subject = draw_pretraining_subject(rng, DRAWN[rng.integers(len(DRAWN))])
        for _ in range(2):
            view = draw_any_view(rng, subject)
            images.append(edition.draw(subject, view, rng, size))
            emblem = edition.names_emblem > 0 and rng.random() < edition.names_emblem
            captions.append([caption(rng, subject, view, emblem=emblem) for _ in range(CAPTIONS_PER_IMAGE)])
            facts.append({**asdict(subject), "scene": view.scene, "outfit": view.outfit, "look": view.look})
    return np.stack(images), captions, facts
