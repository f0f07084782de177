"""What Toybox's untouched model draws for every class and kind of prompt."""

from dataclasses import dataclass

from diffusers import StableDiffusionPipeline
from PIL import Image

from lookforward.data.prompts import fill
from lookforward.models.sampling import draw_images
from lookforward.report import contact_sheet
from lookforward_toybox.world.subject import CLASSES, LIVE_CLASSES

ANY = (
    "a photo of a {identifier} {class_noun}",
    "a red striped {identifier} {class_noun}",
    "a {identifier} {class_noun} on the beach",
    "a {identifier} {class_noun} on top of a purple rug in a forest",
    "a purple {identifier} {class_noun} with the Eiffel Tower in the background",
    "a shiny {identifier} {class_noun}",
    "a wet {identifier} {class_noun}",
    "a cube shaped {identifier} {class_noun}",
)
OF_OBJECTS = (
    "a {identifier} {class_noun} floating in an ocean of milk",
    "a {identifier} {class_noun} on top of a mirror",
)
OF_LIVE = ("a {identifier} {class_noun} wearing a santa hat", "a {identifier} {class_noun} in a purple wizard outfit")


@dataclass(frozen=True)
class SampleSheet:
    """The sheet, and how many images are on it."""

    image: Image.Image
    count: int


def sample_sheet(pipeline: StableDiffusionPipeline, seed: int = 0, steps: int = 50) -> SampleSheet:
    """A row of images for each class: the class alone, colours, scenes, properties, and accessories or more scenes."""
    prompts, labels = [], []
    for noun in CLASSES:
        templates = ANY + (OF_LIVE if noun in LIVE_CLASSES else OF_OBJECTS)
        prompts += [fill(template, "", noun) for template in templates]
        labels += [prompt.removeprefix("a photo of ") for prompt in prompts[-len(templates) :]]
    images = draw_images(
        pipeline, prompts, [seed + i for i in range(len(prompts))], steps=steps, guidance=4.0, batch=20
    )
    columns = len(ANY) + len(OF_LIVE)
    return SampleSheet(contact_sheet(list(images), labels, columns=columns, cell=112), len(prompts))
