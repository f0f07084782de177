"""Train the image and text encoder of Toybox by contrast, as CLIP."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from lookforward.errors import LookforwardError
from lookforward.files import atomic_folder
from lookforward_toybox.training.attention import unfuse_attention
from lookforward_toybox.training.augment import jitter, random_crops
from lookforward_toybox.training.data import (
    describe_weights,
    hash_file,
    load_as_float32,
    open_captions,
    open_images,
    to_float,
    train_count,
)
from lookforward_toybox.training.loop import TrainingSchedule, describe, run_stage
from lookforward_toybox.training.state import load_averaged, load_settings
from lookforward_toybox.training.tokenizer import (
    LENGTH,
    build_tokenizer,
    encode,
    encode_captions,
    pick_captions,
    save_tokenizer,
)


@dataclass(frozen=True)
class ClipSizes:
    hidden: int = 128
    text_layers: int = 3
    image_layers: int = 4
    heads: int = 4
    projection: int = 128
    image: int = 64
    patch: int = 8


def make_clip(sizes: ClipSizes, tokenizer: CLIPTokenizer) -> CLIPModel:
    shared = {
        "hidden_size": sizes.hidden,
        "intermediate_size": 4 * sizes.hidden,
        "num_attention_heads": sizes.heads,
        "projection_dim": sizes.projection,
    }
    # The end id must be the tokenizer's: the text model pools where it finds it first.
    text = shared | {
        "num_hidden_layers": sizes.text_layers,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = shared | {
        "num_hidden_layers": sizes.image_layers,
        "image_size": sizes.image,
        "patch_size": sizes.patch,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=sizes.projection))


def contrast(image: Tensor, text: Tensor, scale: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """InfoNCE in both directions, and the share of images whose own caption ranks first.

    image, text: (b, d) embeddings of length one; ids: (b, l) tokens. Equal captions are each
    other's positives: short captions repeat within a batch.
    """
    logits = scale * image.float() @ text.float().T  # (b, b)
    same = (ids[:, None] == ids[None]).all(dim=-1)
    target = same.float() / same.sum(dim=1, keepdim=True)
    loss = 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))
    best = logits.argmax(dim=1, keepdim=True)
    return loss, same.gather(1, best).float().mean()


def train_clip(
    data: Path,
    folder: Path,
    *,
    steps: int = 5_000,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch: int = 128,
    learning_rate: float = 1e-3,
    extra_words: Iterable[str] = (),
    init: Path | None = None,
    sizes: ClipSizes | None = None,
    log_every: int = 20,
) -> Iterator[dict[str, Any]]:
    """Build the tokenizer (folder/tokenizer) and train or resume CLIP, yielding log rows.

    init: an exported model of the same sizes to start from; words that both know keep their embedding.
    """
    sizes = sizes or ClipSizes()
    images, captions = open_images(data), open_captions(data)
    tokenizer = _tokenizer(folder, captions, extra_words)
    count = train_count(len(images))
    tokens = encode_captions(tokenizer, captions)
    torch.manual_seed(seed)  # initial weights
    model = make_clip(sizes, tokenizer)
    if init is not None:
        carry_over(model, tokenizer, init)
    unfuse_attention(model, device)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(count, (batch,), generator=generator)
        picked = to_float(images[index.numpy()]).to(device)
        views = jitter(random_crops(picked, sizes.image, (0.7, 1.0), generator), 0.1, generator)
        ids = pick_captions(tokens, index, generator).to(device)
        out = model(input_ids=ids, pixel_values=views)
        scale = model.logit_scale.exp()
        value, top1 = contrast(out.image_embeds, out.text_embeds, scale, ids)
        return {"loss": value, "batch_top1": top1, "scale": scale}

    @torch.no_grad()
    def bound_scale(progress: float) -> None:
        model.logit_scale.clamp_(0.0, math.log(100.0))

    schedule = TrainingSchedule(steps, learning_rate, minutes, weight_decay=0.05)
    yield from run_stage(
        folder=folder,
        module=model,
        loss=loss,
        schedule=schedule,
        seed=seed,
        settings=describe(
            "clip",
            dataclasses.asdict(sizes),
            data,
            schedule,
            seed,
            batch,
            begun_from=hash_file(init / "model.safetensors") if init else "chance",
        ),
        after_update=bound_scale,
        batch=batch,
        device=device,
        log_every=log_every,
    )


@torch.no_grad()
def carry_over(model: CLIPModel, tokenizer: CLIPTokenizer, init: Path) -> None:
    """Start `model` from an exported one whose vocabulary may be another, in place.

    Raises:
        LookforwardError: the exported model has other sizes.
    """
    earlier = CLIPModel.from_pretrained(init, dtype=torch.float32)
    known, words = CLIPTokenizer.from_pretrained(init).get_vocab(), tokenizer.get_vocab()
    name = "text_model.embeddings.token_embedding.weight"
    weights, own = earlier.state_dict(), model.state_dict()
    rows = own[name].clone()
    shared = [word for word in words if word in known]
    try:
        rows[[words[word] for word in shared]] = weights[name][[known[word] for word in shared]]
        weights[name] = rows
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise LookforwardError(
            f"{init} has a CLIP of other sizes; start without it.", code="toybox-other-sizes"
        ) from error


def _tokenizer(folder: Path, captions: list[list[str]], extra: Iterable[str]) -> CLIPTokenizer:
    """The tokenizer of a training folder, built on the first start."""
    path = folder / "tokenizer"
    if not path.is_dir():
        with atomic_folder(path) as partial:
            save_tokenizer(build_tokenizer((text for c in captions for text in c), extra), partial)
    return CLIPTokenizer.from_pretrained(path)


def export_clip(folder: Path, target: Path) -> None:
    """Write the averaged model in half precision with its tokenizer and image processor in one folder."""
    settings = load_settings(folder)
    sizes = ClipSizes(**settings["sizes"])
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    model = make_clip(sizes, tokenizer)
    load_averaged(folder, model)
    model.half().save_pretrained(target)
    describe_weights(target / "model.safetensors", settings)
    load_as_float32(target)
    save_tokenizer(tokenizer, target)
    CLIPImageProcessor(
        size={"shortest_edge": sizes.image},
        crop_size={"height": sizes.image, "width": sizes.image},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(target)


@torch.no_grad()
def evaluate_clip(folder: Path, data: Path, choices: int = 100, device: str = "cpu") -> dict[str, float]:
    """Of held-out images, how many find their own caption among `choices` distinct ones.

    folder: an exported model. Returns top1 (0 to 1, better higher) and the number of captions
    there were, fewer than `choices` in a small data folder.
    """
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    nn.Module.to(model, device)  # transformers' own `to` is annotated wrongly
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    images, captions = open_images(data), open_captions(data)
    chosen: dict[str, int] = {}
    for index in range(train_count(len(images)), len(images)):
        chosen.setdefault(max(captions[index], key=len), index)
    texts = list(chosen)[:choices]
    pixels = to_float(images[[chosen[text] for text in texts]]).to(device)
    out = model(input_ids=encode(tokenizer, texts).long().to(device), pixel_values=pixels)
    best = (out.image_embeds @ out.text_embeds.T).argmax(dim=1)
    top1 = (best == torch.arange(len(texts), device=device)).float().mean()
    return {"top1": float(top1), "captions": float(len(texts))}
