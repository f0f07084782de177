"""What the untouched 128-pixel model draws for every class and kind of prompt, emblems among them."""

from diffusers import StableDiffusion3Pipeline

from lookforward.data.prompts import fill
from lookforward.report import contact_sheet
from lookforward_toybox.measure_128 import STEPS, draw_128
from lookforward_toybox.samples import ANY, OF_LIVE, OF_OBJECTS, SampleSheet
from lookforward_toybox.world.captions import emblem_words
from lookforward_toybox.world.subject import CLASSES, EMBLEMS, LIVE_CLASSES


def sample_sheet_128(pipeline: StableDiffusion3Pipeline, seed: int = 0, steps: int = STEPS) -> SampleSheet:
    """A row of images for each class: alone, colours, an emblem, scenes, properties, and outfits or more scenes."""
    prompts, labels = [], []
    for i, noun in enumerate(CLASSES):
        emblem = f"a white {{identifier}} {{class_noun}} {emblem_words(EMBLEMS[i % len(EMBLEMS)], 'red')}"
        templates = (*ANY, emblem, *(OF_LIVE if noun in LIVE_CLASSES else OF_OBJECTS))
        prompts += [fill(template, "", noun) for template in templates]
        labels += [prompt.removeprefix("a photo of ") for prompt in prompts[-len(templates) :]]
    images = draw_128(pipeline, prompts, seed, steps)
    columns = len(prompts) // len(CLASSES)
    return SampleSheet(contact_sheet(list(images), labels, columns=columns, cell=144), len(prompts))
