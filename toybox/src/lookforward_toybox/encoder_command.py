"""`lookforward pretrain-encoder`: train the photo encoder that draws a subject without training."""

from pathlib import Path
from typing import Any, Literal

import tyro

from lookforward.bundle import TOYBOX
from lookforward.cli.console import console
from lookforward.config.reading import check_number


def pretrain_encoder(
    data: tyro.conf.Positional[Path],
    output: Path = Path("encoder"),
    stage: Literal["all", "global", "local", "tokens", "e4t"] = "all",
    model: str = TOYBOX,
    clip: str = "",
    class_noun: str = "",
    without: tuple[str, ...] = (),
    steps: int = 20_000,
    minutes: float | None = None,
    batch: int = 48,
    learning_rate: float = 1e-3,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Train a photo encoder, which draws a subject from its photos without training. Run it again to resume.

    Args:
        data: Folder from `lookforward toybox draw`; or folder of photos, one subject each; or of folders, in each of
            which all photos show one subject. A caption dog.txt beside dog.jpg may have {} for the subject.
        output: Training folder. The encoder is OUTPUT/export; OUTPUT works in its place.
        stage: global trains the word of the photos, local the details, which needs global. tokens is the one stage
            of a flow transformer. all: those of the model. e4t trains a word and weight offsets, for adapter e4t.
        model: Model that the encoder is for, of the class of Stable Diffusion 1 or 3: toybox, a folder or hub ID.
        clip: Image encoder that the photos are seen with, a CLIP. Default: the one that belongs to the model.
        class_noun: What all photos show, for a folder of photos; it stays in the prompts.
        without: Class nouns of the drawn world to leave out.
        steps: Number of steps of each stage.
        minutes: Training time of each stage, instead of --steps. On processors, minutes of one core.
        batch: Number of pictures per step.
        learning_rate: Peak learning rate.
        seed: Random seed.
        device: cpu, cuda, mps, or auto for an accelerator if there is one.
    """
    from lookforward.models.load_pipeline import find_device
    from lookforward_toybox.training.photo_encoder import stages_of, train_encoder

    for name, number, within in (
        ("steps", steps, "[1, 100000000]"),
        ("minutes", minutes, "(0, 100000]"),
        ("batch", batch, "[1, 65536]"),
        ("learning_rate", learning_rate, "(0, 100]"),
        ("seed", seed, "[0, 2^63)"),
    ):
        check_number(name, number, within)
    common: dict[str, Any] = {"model": model, "clip": clip, "class_noun": class_noun, "without": without, "seed": seed}
    common |= {"steps": steps, "minutes": minutes, "batch": batch, "learning_rate": learning_rate}
    for name in stages_of(model) if stage == "all" else (stage,):
        for row in train_encoder(data, output, name, device=find_device(device), **common):
            terms = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
            console.print(f"{name}: {terms}")
        console.print(f"{name}: exported to {output / 'export'}")
