"""Flipped bits and cut files, in everything that is read again: checkpoints, exports, caches, cells, logs."""

import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from lookforward.errors import LookforwardError
from torture.outcome import Outcome
from torture.world import World

CUTS = 0.3  # share of the damages that cut a file; the others flip a bit
State = dict[str, torch.Tensor]
Reader = Callable[[], tuple[Any, bool]]  # what was read, and whether a message named the damage
Part = tuple[list[Path], Reader, Any]  # files, what reads them, and what may be read instead


def damage(world: World, kind: str, seed: int, count: int) -> list[Outcome]:
    """`count` damages of a kind, each in a file that is whole again after it."""
    rng = random.Random(f"{kind} {seed}")
    place = world.new(f"damage-{kind}-{seed}")
    make = {"checkpoint": _checkpoints, "export": _exports, "cache": _caches, "cell": _cells, "log": _logs}[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = []
        for files, read, fallback in make(world, place):
            whole, noticed = read()
            assert not noticed, f"{kind} is not whole to begin with"
            parts += [(path, read, (whole, fallback)) for path in files]
        return [_try(rng, kind, *rng.choice(parts)) for _ in range(count)]


def _try(rng: random.Random, kind: str, path: Path, read: Reader, expected: tuple[Any, ...]) -> Outcome:
    before = path.read_bytes()
    cut, place = rng.random() < CUTS, rng.randrange(len(before))
    data = bytearray(before[:place] if cut else before)
    if not cut:
        data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    name, how = f"{kind}: {'cut' if cut else 'flipped bit'}", f"{path.name} at {place} of {len(before)}"
    try:
        found, noticed = read()
        right = any(_equal(found, one) for one in expected)
        return Outcome(name, noticed or _equal(found, expected[0]), right, not right, note=how)
    except LookforwardError as error:
        return Outcome(name, note=f"{how}: {error}")
    except Exception as error:
        return Outcome(name, survived=False, traceback=True, note=f"{how}: {type(error).__name__}: {error}")
    finally:
        path.write_bytes(before)


def _checkpoints(world: World, place: Path) -> list[Part]:
    """The newest of two is damaged: it is noticed, and the one before it is taken."""
    from lookforward.runs.checkpoint import list_checkpoints, load_newest
    from tiny import tiny_trainer

    folder = Path(shutil.copytree(world.folder / "checkpoints", place / "checkpoints"))
    newest = list_checkpoints(folder)[-1]

    def read() -> tuple[Any, bool]:
        trainer = tiny_trainer(critic="adam")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            load_newest(trainer, folder)
        state = {"step": torch.tensor(trainer.step), **trainer.parameters}
        assert trainer.critic_updater is not None
        state |= {f"critic {n}": value for n, value in trainer.critic_updater.critic.state_dict().items()}
        return {name: value.detach().clone() for name, value in state.items()}, bool(caught)

    shutil.move(newest, place / "aside")
    before = read()[0]
    shutil.move(place / "aside", newest)
    return [([path for path in newest.iterdir() if path.is_file()], read, before)]


def _exports(world: World, place: Path) -> list[Part]:
    """An adapter and a full model: damage is refused, but for an edited card."""
    from lookforward.exports.load import load_export

    def part(folder: Path) -> Part:
        def read() -> tuple[Any, bool]:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                pipeline = load_export(folder, "cpu")
            said = any("SHA256SUMS" in str(one.message) or "changed" in str(one.message) for one in caught)
            return {name: value.clone() for name, value in _weights(pipeline)}, said

        return [path for path in folder.rglob("*") if path.is_file()], read, None

    found = {"lora": world.folder / "lora", "full": world.whole / "export"}
    return [part(Path(shutil.copytree(folder, place / name))) for name, folder in found.items()]


def _weights(pipeline: Any) -> list[tuple[str, torch.Tensor]]:
    parts = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder, "vae": pipeline.vae}
    return [(f"{part} {n}", value) for part, module in parts.items() for n, value in module.state_dict().items()]


def _caches(world: World, place: Path) -> list[Part]:
    """Class images and encodings are made again, to the same values."""
    import os

    from lookforward.core.types import CachedLatents
    from lookforward.data.class_images import class_images
    from lookforward.models.encoding_cache import EncodingCache

    def draw(prompts: list[str], seeds: list[int]) -> np.ndarray:
        noise = [np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8) for seed in seeds]
        return np.stack(noise)

    def encode(photos: torch.Tensor) -> CachedLatents:
        return CachedLatents(photos[:, :1] + 1, photos[:, :1] + 2, 0.5)

    policy: Any = SimpleNamespace(
        family=SimpleNamespace(name="sd"), dtype=torch.float32, device=torch.device("cpu"), encode_prompts=None
    )

    def read() -> tuple[Any, bool]:
        os.environ["LOOKFORWARD_CACHE"] = str(place)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            images = class_images(draw, "a dog", 4, resolution=16, key="k")
            latents = EncodingCache(policy, "model", "float32").latents(torch.ones(2, 3, 8, 8), encode)
        return {"images": torch.from_numpy(images), "mean": latents.mean, "std": latents.std}, bool(caught)

    read()
    return [([path for path in place.rglob("*") if path.is_file()], read, None)]


def _cells(world: World, place: Path) -> list[Part]:
    """A damaged cell counts as not finished; images that do not fit their digest are refused."""
    from fake_cells import fake_plan
    from lookforward.benchmark.cell import cell_files, finished_cell, read_strip

    folder = Path(shutil.copytree(world.folder / "grid", place / "grid"))
    plan = fake_plan(world.folder / "data", seeds=1)
    stems = [path.stem for path in cell_files(folder)]

    def read() -> tuple[Any, bool]:
        cells = [finished_cell(plan, folder, key) for key in plan.cells()]
        return (cells, [read_strip(folder, stem).tobytes() for stem in stems]), None in cells

    files = [path for name in ("cells", "images") for path in (folder / name).glob("[!.]*.*")]
    whole = read()[0]

    def without_the_missing() -> tuple[Any, bool]:
        (cells, strips), noticed = read()
        known = [one if one is not None else other for one, other in zip(cells, whole[0], strict=True)]
        return (known, strips), noticed  # one that is missing is run again

    return [(files, without_the_missing, None)]


def _logs(world: World, place: Path) -> list[Part]:
    """Lines that were changed are named and kept aside; steps that are missing are named."""
    from lookforward.assembly.best_step import BestStep
    from lookforward.config.reading import structure
    from lookforward.config.settings import Settings
    from lookforward.runs.folder import Run
    from lookforward.runs.step_choice import Evaluation, Scale, read_evaluations, write_evaluations

    run, work = Run(place / "run", Settings()), Run(place / "work", Settings())
    run.folder.mkdir()
    shutil.copy(world.whole / "metrics.jsonl", run.metrics)
    rows = [Evaluation(step, 0.1 + step / 10, 0.3 - step / 100, 1 / (1 + step)) for step in range(5)]
    write_evaluations(run.evaluations, rows)
    settings = structure({"evaluation": {"every": 1}, "run": {"steps": len(rows) - 1}}, "settings")
    validation: Any = SimpleNamespace(scale=lambda one: Scale((one.identity, 1.0), (one.prompt, 0.1)))
    best = BestStep(settings, validation)
    last = len(run.read_metrics())

    def read() -> tuple[Any, bool]:
        shutil.rmtree(work.folder, ignore_errors=True)
        shutil.copytree(run.folder, work.folder)
        notes = list(work.forget_after(last))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            best.choice(Run(work.folder, Settings()), len(rows) - 1)
        cut = any("lacks the measurements" in str(one.message) for one in caught)
        logged = work.read_metrics()
        measured = read_evaluations(work.evaluations)
        whole = {row["step"]: row for row in originals}
        kept = [whole[row["step"]] if row == whole.get(row["step"]) else row for row in logged]
        return (kept if len(kept) == last else _filled(kept, originals, bool(notes)), rows if cut else measured), bool(
            notes
        ) or cut

    originals: list[dict[str, float]] = run.read_metrics()
    return [([run.metrics, run.evaluations], read, None)]


def _filled(kept: list[dict[str, float]], originals: list[dict[str, float]], noted: bool) -> list[dict[str, float]]:
    """The originals, if nothing is left but rows of theirs and a note says that others are missing."""
    return originals if noted and all(row in originals for row in kept) else kept


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    return other is not None and one == other
