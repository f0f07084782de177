"""The Python entry: photos in, a personalised model out.

from lookforward import personalize

dog = personalize("photos/dog", class_noun="dog")
for image in dog.generate("a photo of sks dog on the beach", count=4):
    image.show()
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

from diffusers import DiffusionPipeline
from PIL import Image

from lookforward.assembly.marking import marked, watermark_notes
from lookforward.assembly.processes import join_processes
from lookforward.assembly.prompts import fill_prompt, prompt_notes
from lookforward.assembly.training import TrainingJob
from lookforward.config.reading import flatten, join
from lookforward.config.recipe import load_settings, recipe_notes, require_followed, written_settings
from lookforward.config.recipe import until_best as with_own_end
from lookforward.config.settings import Options, dotted
from lookforward.core.types import StepResult
from lookforward.data.subjects import name_subjects, photos_name, read_subject, with_notes
from lookforward.errors import LookforwardError
from lookforward.exports.load import model_hash
from lookforward.exports.png import PngMetadata
from lookforward.exports.source import Source, device_of, drawn_with, find_source
from lookforward.launch import ending_others
from lookforward.models.families import family_of
from lookforward.models.sampling import SchedulerName, check_count, check_size, draw_images
from lookforward.provenance.origin import own_version
from lookforward.provenance.save import GeneratedImage
from lookforward.runs.folder import Run, default_output
from lookforward.texts import MOST_OF_NOTE, visible


@dataclass(frozen=True)
class Personalized:
    """A trained model, ready to draw: where it came from, and its pipeline.

    notes: what the user should know of the training that made it, as the command line prints it.
    """

    source: Source
    pipeline: DiffusionPipeline
    notes: tuple[str, ...] = ()

    @property
    def run(self) -> Run:
        """The run that it was trained in.

        Raises:
            LookforwardError: it was loaded from an export, or is a plain model.
        """
        if self.source.run is None:
            raise LookforwardError(
                f"{self.source.given} is not a run folder: give the run folder that wrote it.", code="not-a-run"
            )
        return self.source.run

    def generate(
        self,
        prompt: str,
        count: int = 1,
        *,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        negative: str | None = None,
        scheduler: SchedulerName | None = None,
        resolution: int | None = None,
        watermark: bool = True,
    ) -> list[Image.Image]:
        """Draw `count` images of the prompt, from seeds `seed`, `seed` + 1, … In it, {} stands for the subject.

        steps: of the sampler; guidance: classifier-free guidance, 1 is none; resolution: pixels; each is the
        run's own where None. negative: what to lead away from. scheduler: "ddim", the default, "ddpm", "dpm++",
        "euler" or "unipc". watermark: whether images carry the invisible one, from 256 pixels on.

        The images' own `save` writes into PNG, JPEG and WebP files how they were drawn, as the command line does.

        Raises:
            LookforwardError: a number is out of range; it names it.
        """
        check_count(count)
        own = self.source.manifest
        text = fill_prompt(prompt, own)
        size = own["resolution"] if resolution is None else resolution
        check_size(self.pipeline, size)
        side = size or family_of(self.pipeline).native_size(self.pipeline)
        for note in (*prompt_notes(self.pipeline, own, [text], negative or ""), *watermark_notes(side, watermark)):
            warnings.warn(visible(note, MOST_OF_NOTE), stacklevel=2)
        sampling: dict[str, Any] = {
            "steps": own["sample_steps"] if steps is None else steps,
            "guidance": own["guidance"] if guidance is None else guidance,
            "scheduler": scheduler,
        }
        seeds = list(range(seed, seed + count))
        drawn = draw_images(self.pipeline, [text] * count, seeds, resolution=size, negative=negative, **sampling)
        images, is_marked = marked(list(drawn), watermark)
        sampling["scheduler"] = scheduler or next(iter(family_of(self.pipeline).schedulers))
        whole = PngMetadata(
            text, 0, size=side, negative=negative or "", version=own_version(), watermark=is_marked,
            **sampling, **drawn_with(self.source, self._model_hash),
        )  # fmt: skip
        each = [replace(whole, seed=number) for number in seeds]
        return [GeneratedImage.of(i, one.origin(), one.text()) for i, one in zip(images, each, strict=True)]

    @cached_property
    def _model_hash(self) -> str:
        return model_hash(self.pipeline)


def personalize(
    photos: str | Path | Sequence[str | Path],
    class_noun: str = "",
    *,
    recipe: str = "look-forward",
    output: str | Path | None = None,
    on_step: Callable[[StepResult], None] | None = None,
    settings: Mapping[str, Any] | None = None,
    until_best: bool = False,
    consent: str = "",
    **options: Unpack[Options],
) -> Personalized:
    """Train a model on the photos, or continue a training that was interrupted, and load the result.

    photos: a folder, or image files, or a TOML list of several subjects. class_noun: what the subject is, such as
    "dog"; a list names it itself. recipe: a bundled name or a TOML file. output: the run folder;
    `runs/<photos>-<recipe>` if None, with `-<adapter>` behind it unless that is full. on_step: called after each
    step. options: the settings that change most often (model, reward, adapter, identifier, steps, batch_size,
    learning_rate, resolution, seed, device, precision). settings: any others by their dotted names, such as
    {"critic.weight": 0.5}; docs/settings.md lists them. until_best: end when identity and prompt following no
    longer gain, and load the best step; no number of steps is needed. consent: who took the photos, and that they and
    whoever is shown agree; run and model card record it, and photos of people need it.

    What the command line prints as notes is warned of (`UserWarning`), and in the result's `notes`.

    Raises:
        LookforwardError: something is wrong with what was asked for; the message names the remedy.
    """
    given = join(flatten(settings or {}), dotted(**options, class_noun=class_noun or None))
    named = name_subjects(photos, given | {"subject.photos": photos_name(photos)})
    resolved, written = load_settings(recipe, named), written_settings(recipe, named)
    require_followed(resolved, given)
    resolved = with_own_end(resolved, given) if until_best else resolved
    subject = with_notes(read_subject(photos, resolved), recipe_notes(recipe, named))
    folder = Path(output) if output is not None else default_output(resolved)
    processes = join_processes(resolved.model.device, resolved.run.shard)
    job = TrainingJob(folder, resolved, subject, given=written, processes=processes, consent=consent)
    summaries = tuple(one.summary for one in subject.together if one.unused)
    warned = False
    # Lets go of the folder, whatever holds the traceback
    with ending_others(), closing(iter(job)) as results:
        for result in results:
            if not warned:  # before the first step, the job had not looked at the model yet
                warned = _warn((*summaries, *job.notes))
            if on_step is not None:
                on_step(result)
    return replace(load_personalized(folder), notes=(*summaries, *job.notes))


def _warn(notes: Iterable[str]) -> bool:
    for note in notes:
        warnings.warn(visible(note, MOST_OF_NOTE), stacklevel=3)
    return True


def load_personalized(folder: str | Path) -> Personalized:
    """The finished run in `folder`; or an export, a pipeline folder or a hub id, on the device that is there.

    Raises:
        LookforwardError: there is nothing of that name, or a run that is not finished.
    """
    source = find_source(folder)
    return Personalized(source, source.load(device_of(source)))
