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
from pathlib import Path
from typing import Any, Unpack

from diffusers import DiffusionPipeline
from PIL import Image

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
from lookforward.exports.source import Source, device_of, find_source
from lookforward.launch import ending_others
from lookforward.models.sampling import SchedulerName, check_count, check_size, draw_images
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
    ) -> list[Image.Image]:
        """Draw `count` images of the prompt, from seeds `seed`, `seed` + 1, … In it, {} stands for the subject.

        steps: of the sampler; guidance: classifier-free guidance, 1 is none; resolution: pixels; each is the
        run's own where None. negative: what to lead away from. scheduler: "ddim", the default, "ddpm", "dpm++",
        "euler" or "unipc".

        Raises:
            LookforwardError: a number is out of range; it names it.
        """
        check_count(count)
        own = self.source.manifest
        text = fill_prompt(prompt, own)
        size = own["resolution"] if resolution is None else resolution
        check_size(self.pipeline, size)
        for note in prompt_notes(self.pipeline, own, [text], negative or ""):
            warnings.warn(visible(note, MOST_OF_NOTE), stacklevel=2)
        images = draw_images(
            self.pipeline,
            [text] * count,
            list(range(seed, seed + count)),
            steps=own["sample_steps"] if steps is None else steps,
            guidance=own["guidance"] if guidance is None else guidance,
            resolution=size,
            negative=negative,
            scheduler=scheduler,
        )
        return [Image.fromarray(image) for image in images]


def personalize(
    photos: str | Path | Sequence[str | Path],
    class_noun: str = "",
    *,
    recipe: str = "look-forward",
    output: str | Path | None = None,
    on_step: Callable[[StepResult], None] | None = None,
    settings: Mapping[str, Any] | None = None,
    until_best: bool = False,
    **options: Unpack[Options],
) -> Personalized:
    """Train a model on the photos, or continue a training that was interrupted, and load the result.

    photos: a folder, or image files, or a TOML list of several subjects. class_noun: what the subject is, such as
    "dog"; a list names it itself. recipe: a bundled name or a TOML file. output: the run folder;
    `runs/<photos>-<recipe>` if None, with `-<adapter>` behind it unless that is full. on_step: called after each
    step. options: the settings that change most often (model, reward, adapter, identifier, steps, batch_size,
    learning_rate, resolution, seed, device, precision). settings: any others by their dotted names, such as
    {"critic.weight": 0.5}; docs/settings.md lists them. until_best: end when identity and prompt following no
    longer gain, and load the best step; no number of steps is needed.

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
    processes = join_processes(resolved.model.device)
    job = TrainingJob(folder, resolved, subject, given=written, processes=processes)
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
