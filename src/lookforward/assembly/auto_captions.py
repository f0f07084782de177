"""Captions by a vision-language model: any that transformers loads for image-text-to-text, BLIP's kind included."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from lookforward.config.settings import Settings
from lookforward.data.photo import Photo, Pixels
from lookforward.data.prompts import names_subject
from lookforward.data.subject import Subject
from lookforward.data.views import prompts_of
from lookforward.errors import LookforwardError
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.weight_files import explain_load_error, load_weights, local_folder

_QUESTION = (
    "Describe this photo in one short sentence: what the {noun} does, where it is, and what is around it. "
    "Call it {noun}."
)
_MOST_TOKENS = 48  # of a caption; CLIP reads 75 with the subject's words


def find_captioner(source: str) -> Any:
    """The folder of a model that captions images.

    source: a folder or a hub id.

    Raises:
        LookforwardError: it is not there, or is no such model.
    """
    folder = local_folder(source)
    try:
        kind = AutoConfig.from_pretrained(str(folder), trust_remote_code=False).model_type
    except Exception as error:
        raise explain_load_error(folder, error) from error
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise LookforwardError(
            f"data.caption_model = {source!r} is a model {kind!r}, which writes no captions: give one for "
            "image-text-to-text, such as Salesforce/blip-image-captioning-base or HuggingFaceTB/SmolVLM-500M-Instruct.",
            code="caption-model",
        )
    return folder


def load_captioner(source: str, device: torch.device | str, noun: str) -> Callable[[Pixels], str]:
    """A function from a photo, (h, w, 3) uint8, to its caption. noun: what the question calls the subject.

    Raises:
        LookforwardError: the model cannot be loaded, or has no processor.
    """
    folder = find_captioner(source)
    model = load_weights(AutoModelForImageTextToText, folder, trust_remote_code=False).eval()
    try:
        processor = AutoProcessor.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:
        raise explain_load_error(folder, error) from error
    dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    return partial(_write, model.to(device, dtype), processor, _QUESTION.format(noun=noun))


def with_captions(subject: Subject, settings: Settings, policy: DiffusionPolicy) -> Subject:
    """The subject with a caption for each photo that has none.

    The class noun in it becomes the subject; without one the subject goes in front, as with other captions. Words
    at its end that the text encoder would not read are left out.

    Raises:
        LookforwardError: the model cannot be loaded.
    """
    room = policy.prompt_length - settings.adapter.vectors  # of a word that is learned

    def fits(one: Subject, photo: Photo) -> bool:
        prompt = prompts_of(one, photo)[0]
        within = len(policy.count_tokens(prompt)) <= room
        return within and names_subject(policy.count_tokens, prompt, one.identifier, room)

    def captioned(one: Subject) -> Subject:
        write = load_captioner(settings.data.caption_model, policy.device, one.class_noun)
        photos = []
        for photo in one.photos:
            if not photo.caption:
                words = as_caption(write(photo.pixels), one.class_noun).split()
                while words and not fits(one, replace(photo, caption=" ".join(words))):
                    words.pop()
                photo = replace(photo, caption=" ".join(words))
            photos.append(photo)
        return replace(one, photos=tuple(photos))

    first, *others = [captioned(one) for one in subject.together]
    return replace(first, others=tuple(others))


def caption_model_notes(before: Subject, after: Subject) -> tuple[str, ...]:
    """A line for each photo that a model has captioned, with its prompt."""
    pairs = ((one, old, new) for a, one in zip(before.together, after.together, strict=True)
             for old, new in zip(a.photos, one.photos, strict=True))  # fmt: skip
    return tuple(f"{new.path.name}: {prompts_of(one, new)[0]!r}" for one, old, new in pairs if not old.caption)


def as_caption(text: str, noun: str) -> str:
    """What a model wrote as a caption: its first sentence, {} in the place of the class noun."""
    line = re.sub(r"[{}]", "", next(iter(text.strip().splitlines()), ""))
    line = " ".join(line.split()).strip("\"'")
    sentence = re.split(r"(?<=[.!?])\s", line, maxsplit=1)[0].rstrip(".!? ")
    sentence = sentence[:1].lower() + sentence[1:]
    return re.sub(rf"\b{re.escape(noun)}\b", "{}", sentence, count=1, flags=re.IGNORECASE)


@torch.no_grad()
def _write(model: Any, processor: Any, question: str, pixels: Pixels) -> str:
    image = Image.fromarray(pixels)
    if getattr(processor, "chat_template", None):
        asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        text = processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        inputs = processor(images=[image], text=[text], return_tensors="pt")
    else:
        inputs = processor(images=image, return_tensors="pt")
    inputs = inputs.to(model.device, dtype=model.dtype)
    written = model.generate(**inputs, max_new_tokens=_MOST_TOKENS, do_sample=False, num_beams=1)
    if "input_ids" in inputs and not model.config.is_encoder_decoder:
        written = written[:, inputs["input_ids"].shape[1] :]  # what was asked comes first
    return processor.batch_decode(written, skip_special_tokens=True)[0]
