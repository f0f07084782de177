"""The stages of training Toybox, in order, with the settings of the shipped models."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lookforward.data.prompts import LIVE_PROMPTS, OBJECT_PROMPTS
from lookforward.errors import LookforwardError
from lookforward_toybox.training.clip import export_clip, train_clip
from lookforward_toybox.training.data import hash_encoder
from lookforward_toybox.training.dino import export_dino, train_dino
from lookforward_toybox.training.resnet import export_resnet, train_identity, train_judge
from lookforward_toybox.training.unet import export_unet, train_unet
from lookforward_toybox.training.vae import export_vae, train_vae
from lookforward_toybox.world.subject import CLASSES

# Minutes on one core that the shipped models were trained for, all rounds together. The rate follows the clock.
MINUTES = {"vae": 82.0, "clip": 94.0, "dino": 25.0, "judge": 16.5, "identity": 12.0, "unet": 190.0, "decoder": 54.0}


_NEEDS = {"unet": ("vae", "clip"), "decoder": ("vae",)}


def train_stage(
    stage: str,
    folder: Path,
    *,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    photos: Path | None = None,
    init: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Train or go on with one stage under `folder`, yielding log rows, and export it to `folder/export`.

    The last stage, `decoder`, trains the autoencoder's decoder alone, on latents that the denoiser has learned.

    folder: holds `data` (from draw_world); stage `unet` needs the exports of `vae` and `clip`.
    photos: real photos to mix into the batches of the autoencoder.
    init: an earlier export folder that vae, clip, dino and unet start from; random weights by default. The networks
        for evaluation always start from random weights.

    Raises:
        LookforwardError: what the stage needs is missing, its folder holds a training with other settings, or its
            loss is not finite.
    """
    if minutes is not None and not minutes > 0:
        raise LookforwardError(f"--minutes {minutes:g}: give a number above 0, or leave it out.", code="option-range")
    data, out = folder / "data", folder / "export"
    common: dict[str, Any] = {"minutes": minutes or MINUTES[stage], "seed": seed, "device": device}
    for needed in _NEEDS.get(stage, ()):
        _require(out / needed, f"stage {stage} depends on stage {needed}; train that one first.")

    def start(part: str) -> Path | None:
        if init is not None:
            _require(init / part, f"--init needs a folder that a training has exported, with {part} in it.")
        return None if init is None else init / part

    match stage:
        case "vae":
            yield from train_vae(data, folder / "vae", photos=photos, init=start("pipeline/vae"), **common)
            export_vae(folder / "vae", out / "vae")
        case "clip":
            yield from train_clip(data, folder / "clip", extra_words=known_words(), init=start("clip"), **common)
            export_clip(folder / "clip", out / "clip")
        case "dino":
            yield from train_dino(data, folder / "dino", init=start("dino"), **common)
            export_dino(folder / "dino", out / "dino")
        case "judge":
            yield from train_judge(data, folder / "judge", **common)
            export_resnet(folder / "judge", out / "judge")
        case "identity":
            yield from train_identity(data, folder / "identity", **common)
            export_resnet(folder / "identity", out / "identity")
        case "decoder":
            _require_known_latents(out)
            scale = json.loads((out / "vae" / "config.json").read_text(encoding="utf-8"))["scaling_factor"]
            yield from train_vae(data, folder / "decoder", photos=photos, init=out / "vae", decoder_only=True, **common)
            export_vae(folder / "decoder", out / "vae", scale=scale)
            put_decoder(out / "vae", out / "pipeline" / "vae")
        case _:
            yield from train_unet(
                data, folder / "unet", vae=out / "vae", clip=out / "clip", init=start("pipeline"), **common
            )
            export_unet(folder / "unet", out / "pipeline")


def _require(folder: Path, remedy: str) -> None:
    if not (folder / "config.json").is_file() and not (folder / "model_index.json").is_file():
        raise LookforwardError(f"{folder} is missing or incomplete: {remedy}", code="toybox-stage-missing")


def _require_known_latents(out: Path) -> None:
    """Raise LookforwardError where the denoiser has learned the latents of another encoder."""
    learned = out / "pipeline" / "vae"
    if learned.is_dir() and hash_encoder(learned) != hash_encoder(out / "vae"):
        raise LookforwardError(
            f"Stage vae was trained on since the denoiser in {out / 'pipeline'} learned its latents: delete the folder "
            "unet beside it and train that stage again first.",
            code="toybox-latents-changed",
        )


def put_decoder(vae: Path, target: Path) -> None:
    """Copy an exported autoencoder over that of a pipeline, where there is one."""
    if target.is_dir():
        for file in vae.iterdir():
            shutil.copyfile(file, target / file.name)


def known_words() -> list[str]:
    """Words that the tokenizer keeps whole besides those of the captions: all of the benchmark's prompts."""
    templates = " ".join((*OBJECT_PROMPTS, *LIVE_PROMPTS)).lower()
    return sorted({*re.findall(r"[a-z]+", re.sub(r"\{.*?\}", "", templates)), *" ".join(CLASSES).split()})
