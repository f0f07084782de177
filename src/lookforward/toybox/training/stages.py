"""The stages of training Toybox, in order, with the settings of the shipped models."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lookforward.prompts import LIVE_PROMPTS, OBJECT_PROMPTS, TOYBOX_PROMPTS
from lookforward.toybox.training.clip import export_clip, train_clip
from lookforward.toybox.training.dino import export_dino, train_dino
from lookforward.toybox.training.unet import export_unet, train_unet
from lookforward.toybox.training.vae import export_vae, train_vae

# Minutes that the shipped models were trained for, the first three on one core each and the last on two.
# The rate follows the clock.
MINUTES = {"vae": 33.0, "clip": 12.0, "dino": 16.0, "unet": 54.0}
# The class nouns of the DreamBooth benchmark: the tokenizer knows them although the world draws only some yet
CLASS_NOUNS = "backpack stuffed animal bowl can candle cat clock sneaker dog toy boot glasses cartoon teapot vase"


def train_stage(
    stage: str,
    folder: Path,
    *,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    photos: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Train or go on with one stage under `folder`, yielding log rows, and export it to `folder/export`.

    folder: holds `data` (from draw_world); stage `unet` needs the exports of `vae` and `clip`.
    photos: real photos to mix into the batches of the autoencoder.

    Raises:
        LookforwardError: what the stage needs is missing, or its loss is not finite.
    """
    data, out = folder / "data", folder / "export"
    common: dict[str, Any] = {"minutes": minutes or MINUTES[stage], "seed": seed, "device": device}
    match stage:
        case "vae":
            yield from train_vae(data, folder / "vae", photos=photos, **common)
            export_vae(folder / "vae", out / "vae")
        case "clip":
            yield from train_clip(data, folder / "clip", extra_words=known_words(), **common)
            export_clip(folder / "clip", out / "clip")
        case "dino":
            yield from train_dino(data, folder / "dino", **common)
            export_dino(folder / "dino", out / "dino")
        case _:
            yield from train_unet(data, folder / "unet", vae=out / "vae", clip=out / "clip", **common)
            export_unet(folder / "unet", out / "pipeline")


def known_words() -> list[str]:
    """Words that the tokenizer keeps whole besides those of the captions: all of the benchmark's prompts."""
    templates = " ".join((*OBJECT_PROMPTS, *LIVE_PROMPTS, *TOYBOX_PROMPTS)).lower()
    return sorted({*re.findall(r"[a-z]+", re.sub(r"\{.*?\}", "", templates)), *CLASS_NOUNS.split()})
