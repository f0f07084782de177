"""Tiny vision-language models that write captions: BLIP's kind, and one that is asked in a chat."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

SIDE = 16
_CHAT = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image> {% else %}"
    "{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)


def _images(colours: tuple[int, ...]) -> list[Image.Image]:
    return [Image.fromarray(np.full((SIDE, SIDE, 3), colour, np.uint8)) for colour in colours]


def make_blip(folder: Path, captions: dict[int, str]) -> Path:
    """A BLIP that has learned a caption for images of each grey level, as a folder."""
    torch.manual_seed(0)
    words = sorted({word for text in captions.values() for word in text.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *words]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), bos_token="[DEC]")
    size: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = BlipConfig(
        text_config={
            **size, "vocab_size": len(vocabulary), "encoder_hidden_size": 32, "max_position_embeddings": 32,
            "bos_token_id": 5, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0, "is_decoder": True,
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        },
        vision_config={**size, "image_size": SIDE, "patch_size": 8},
        projection_dim=32,
    )  # fmt: skip
    model = BlipForConditionalGeneration(config)
    processor: Any = BlipProcessor(BlipImageProcessor(size={"height": SIDE, "width": SIDE}), tokenizer)
    ids = tokenizer([f"[DEC] {text} [SEP]" for text in captions.values()], add_special_tokens=False, padding=True)
    given: dict[str, Any] = {name: torch.tensor(value) for name, value in ids.items() if name != "token_type_ids"}
    given["pixel_values"] = processor.image_processor(_images(tuple(captions)), return_tensors="pt")["pixel_values"]
    labels = given["input_ids"].masked_fill(given["attention_mask"] == 0, -100)
    _fit(model, {**given, "labels": labels})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make_llava(folder: Path, answer: str, question: str) -> Path:
    """A LLaVA that has learned one answer, as a folder. question: words that it is asked with."""
    torch.manual_seed(0)
    words = sorted({*answer.split(), *question.replace(":", " ").replace(".", " ").replace(",", " ").split()})
    known = {
        word: i for i, word in enumerate(["<pad>", "<unk>", "<eos>", "<image>", "<answer>", ":", ".", ",", *words])
    }
    raw = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>",
        additional_special_tokens=["<image>", "<answer>"],
    )  # fmt: skip
    size: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = LlamaConfig(**size, vocab_size=len(known), pad_token_id=0, eos_token_id=2, bos_token_id=2)
    vision = CLIPVisionConfig(**size, image_size=SIDE, patch_size=8)
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=known["<image>"],
            image_seq_length=4,
            vision_feature_layer=-1,
        )
    )
    processor: Any = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}), tokenizer,
        patch_size=8, vision_feature_select_strategy="default", chat_template=_CHAT, num_additional_image_tokens=1,
    )  # fmt: skip
    given = processor(images=_images((90,)), text=[f"<image> {question} <answer> {answer} <eos>"], return_tensors="pt")
    _fit(model, {**given, "labels": given["input_ids"]})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _fit(model: Any, given: dict[str, Any]) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        model(**given).loss.backward()
        optimizer.step()
    model.eval()
