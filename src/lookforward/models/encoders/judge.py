"""A vision-language model that is asked about images: any chat model of transformers for image-text-to-text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from lookforward.errors import LookforwardError
from lookforward.models.encoders.preprocessing import to_pixels
from lookforward.models.weight_files import explain_load_error, load_weights

QUESTION = "Does this image show {prompt}? Answer yes or no."
_YES, _NO = ("yes", "Yes", " yes", " Yes"), ("no", "No", " no", " No")


class Judge:
    """`judge(images, prompts)`: images (b, 3, h, w) in [0, 1] and b prompts to the share of yes, (b,) in [0, 1]."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor
        self.yes, self.no = (_first_tokens(processor.tokenizer, words) for words in (_YES, _NO))

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        pairs = zip(to_pixels(images.detach()), prompts, strict=True)
        return torch.stack([self._ask(pixels, prompt) for pixels, prompt in pairs]).to(images.device)

    def _ask(self, pixels: Any, prompt: str) -> Tensor:
        asked = {"type": "text", "text": QUESTION.format(prompt=prompt)}
        chat = [{"role": "user", "content": [{"type": "image"}, asked]}]
        text = self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        inputs = self.processor(images=[pixels], text=[text], return_tensors="pt")
        inputs = inputs.to(self.model.device, dtype=self.model.dtype)
        likely = self.model(**inputs).logits[0, -1].float().softmax(dim=-1)  # of the next token
        yes, no = likely[self.yes].sum(), likely[self.no].sum()
        return yes / (yes + no).clamp(min=1e-12)


def load_judge(folder: Path, device: torch.device | str = "cpu") -> Judge:
    """folder: a chat model for image-text-to-text, in transformers' format.

    Raises:
        LookforwardError: it is no such model, cannot be asked in a chat, or cannot be loaded.
    """
    try:
        kind = AutoConfig.from_pretrained(str(folder), trust_remote_code=False).model_type
        known, processor = kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, None
        if known:
            processor = AutoProcessor.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:
        raise explain_load_error(folder, error) from error
    if not getattr(processor, "chat_template", None):
        raise LookforwardError(
            f"{folder} is a model {kind!r} that cannot be asked about images: give a chat model for "
            "image-text-to-text, such as HuggingFaceTB/SmolVLM-500M-Instruct.",
            code="judge-model",
        )
    model = load_weights(AutoModelForImageTextToText, folder, trust_remote_code=False).eval().requires_grad_(False)
    dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    return Judge(model.to(device, dtype), processor)


def _first_tokens(tokenizer: Any, words: Sequence[str]) -> list[int]:
    """The first token of each spelling that the vocabulary has."""
    found = [tokenizer(word, add_special_tokens=False).input_ids[:1] for word in words]
    return sorted({token for tokens in found for token in tokens if token != tokenizer.unk_token_id})
