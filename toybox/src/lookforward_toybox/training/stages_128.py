"""The stages of training the 128-pixel models, in order, with their settings."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lookforward.errors import LookforwardError
from lookforward_toybox import SHIPPED
from lookforward_toybox.labels import WITH_EMBLEM
from lookforward_toybox.training.autoencoder import export_autoencoder, train_autoencoder
from lookforward_toybox.training.clip import ClipSizes, export_clip, train_clip
from lookforward_toybox.training.data import hash_encoder
from lookforward_toybox.training.dino import DinoSizes, export_dino, train_dino
from lookforward_toybox.training.resnet import JUDGE, ResnetSizes, export_resnet, train_identity, train_judge
from lookforward_toybox.training.stages import known_words, put_decoder
from lookforward_toybox.training.transformer import export_transformer, train_transformer
from lookforward_toybox.world.captions import emblem_words
from lookforward_toybox.world.subject import BODY_COLOURS, EMBLEMS

# Minutes of training of each stage on one core. The rate follows the clock.
MINUTES_128 = {
    "vae": 240.0,
    "clip": 150.0,
    "dino": 70.0,
    "judge": 70.0,
    "identity": 50.0,
    "transformer": 400.0,
    "decoder": 180.0,
}
CLIP = ClipSizes(hidden=160, text_layers=4, image_layers=4, heads=5, projection=160, image=128, patch=16)
DINO = DinoSizes(image=128, patch=16, local_image=64)
IDENTITY = ResnetSizes(image=128)
EMBLEM_JUDGE = ResnetSizes(hidden=JUDGE.hidden, image=128)
_NEEDS = {"transformer": ("vae", "clip", "dino"), "decoder": ("vae",)}


def train_stage_128(
    stage: str,
    folder: Path,
    *,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    photos: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Train or go on with one stage under `folder`, yielding log rows, and export it to `folder/export`.

    folder: holds `data`, drawn in the 128-pixel edition; `transformer` needs the exports of `vae`, `clip` and `dino`,
    `decoder` that of `vae`. photos: real photos to mix into the batches of the autoencoder.

    Raises:
        LookforwardError: what the stage needs is missing, its folder holds a training with other settings, or its
            loss is not finite.
    """
    if minutes is not None and not minutes > 0:
        raise LookforwardError(f"--minutes {minutes:g}: give a number above 0, or leave it out.", code="option-range")
    data, out = folder / "data", folder / "export"
    for needed in _NEEDS.get(stage, ()):
        if not (out / needed / "config.json").is_file():
            raise LookforwardError(
                f"{out / needed} is missing: stage {stage} needs {needed}; train that one first.",
                code="toybox-stage-missing",
            )
    common: dict[str, Any] = {"minutes": minutes or MINUTES_128[stage], "seed": seed, "device": device}
    train, export = _stage(stage, data, folder / stage, out, photos)
    yield from train(**common)
    export()


def _stage(
    stage: str, data: Path, folder: Path, out: Path, photos: Path | None
) -> tuple[Callable[..., Iterator[dict[str, Any]]], Callable[[], None]]:
    """How the stage is trained and exported."""
    match stage:
        case "vae":
            return (
                lambda **common: train_autoencoder(
                    data, folder, photos=photos, outer=SHIPPED.pipeline / "vae", **common
                ),
                lambda: export_autoencoder(folder, out / "vae"),
            )
        case "clip":
            words = [*known_words(), *(emblem_words(e, c) for e in EMBLEMS for c in BODY_COLOURS)]
            return (
                lambda **common: train_clip(data, folder, extra_words=words, sizes=CLIP, **common),
                lambda: export_clip(folder, out / "clip"),
            )
        case "dino":
            return (
                lambda **common: train_dino(data, folder, sizes=DINO, **common),
                lambda: export_dino(folder, out / "dino"),
            )
        case "judge":
            return (
                lambda **common: train_judge(data, folder, sizes=EMBLEM_JUDGE, labels=WITH_EMBLEM, **common),
                lambda: export_resnet(folder, out / "judge"),
            )
        case "identity":
            return (
                lambda **common: train_identity(data, folder, sizes=IDENTITY, **common),
                lambda: export_resnet(folder, out / "identity"),
            )
        case "transformer":
            parts = {"vae": out / "vae", "clip": out / "clip", "dino": out / "dino"}
            return (
                lambda **common: train_transformer(data, folder, **parts, **common),
                lambda: export_transformer(folder, out / "pipeline"),
            )
        case _:
            _require_known_latents(out)
            return (
                lambda **common: train_autoencoder(
                    data, folder, photos=photos, init=out / "vae", decoder_only=True, **common
                ),
                lambda: _export_decoder(folder, out),
            )


def _export_decoder(folder: Path, out: Path) -> None:
    export_autoencoder(folder, out / "vae", keep_scale=True)
    put_decoder(out / "vae", out / "pipeline" / "vae")


def _require_known_latents(out: Path) -> None:
    learned = out / "pipeline" / "vae"
    if learned.is_dir() and hash_encoder(learned) != hash_encoder(out / "vae"):
        raise LookforwardError(
            f"Stage vae was trained on since the transformer in {out / 'pipeline'} learned its latents: delete the "
            "folder transformer beside it and train that stage anew first.",
            code="toybox-latents-changed",
        )
