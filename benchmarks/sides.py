"""The two sides of a comparison with diffusers: its script for a kind of model, and lookforward on the same work.

SD1's kind: `train_dreambooth.py` with UNet and text encoder trained. SD3's kind: `train_dreambooth_sd3.py` with the
transformer trained, since the script's `--train_text_encoder` stops in its first step (it takes `tokenizers[:2]` of
None); both sides encode the prompts once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flow_model import T5_TOKENS, has_t5, native_size, pipeline_class, prepare

PROMPTS = ("--instance_prompt", "a photo of sks teapot", "--class_prompt", "a photo of a teapot")
RATE = 1.8e-4


class Side(NamedTuple):
    """A model and how both sides train it.

    model: pipeline folder that the script loads. script: its name. size: pixels. settings: of lookforward, by dotted
    names, on that folder. sampler_steps, guidance: of the script's class images. bare: settings on the given folder,
    where the script needs T5 and that has none; the transformer then computes fewer tokens.
    """

    model: Path
    script: str
    size: int
    settings: dict[str, Any]
    sampler_steps: int
    guidance: float
    bare: dict[str, Any] | None = None

    def own(self, recipes: Sequence[str]) -> dict[str, tuple[str, dict[str, Any]]]:
        """The rows of lookforward: label to recipe and settings."""
        rows = {recipe: (recipe, self.settings) for recipe in recipes}
        return rows | ({f"{one} without T5": (one, self.bare) for one in recipes} if self.bare else {})

    @property
    def flow(self) -> bool:
        return self.script.endswith("_sd3.py")


def find_side(source: str, folder: Path) -> Side:
    """source: name of a bundled model, or a pipeline folder. folder: for what has to be written.

    Raises:
        LookforwardError: this version of the bundle has no weights of that model.
    """
    from lookforward.bundle import bundled_model

    bundled = bundled_model(source)
    path = bundled.pipeline if bundled else Path(source)
    if pipeline_class(path) != "StableDiffusion3Pipeline":
        size = bundled.size if bundled else 512
        return Side(path, "train_dreambooth.py", size, {"model.name": source, "data.resolution": size}, 50, 7.5)
    model, size = prepare(path, folder / "model"), native_size(path)
    given = {"model.name": str(model), "data.resolution": size, "adapter.train_text_encoder": False}
    given |= {"optimizer.learning_rate": RATE}
    bare = None if has_t5(path) else given | {"model.name": source}
    return Side(model, "train_dreambooth_sd3.py", size, given, 28, 7.0, bare)


def script_arguments(
    side: Side, photos: Path, class_images: Path, output: Path, steps: int, count: int = 4
) -> list[Any]:
    """What both train on, as the script's options. count: of class images."""
    given = [
        "--pretrained_model_name_or_path", side.model, "--instance_data_dir", photos, "--class_data_dir", class_images,
        "--num_class_images", count, "--with_prior_preservation", *PROMPTS, "--resolution", side.size,
        "--train_batch_size", 1, "--learning_rate", RATE, "--max_train_steps", steps, "--output_dir", output,
        "--lr_scheduler", "constant", "--lr_warmup_steps", 0,
    ]  # fmt: skip
    return [*given, "--max_sequence_length", T5_TOKENS] if side.flow else [*given, "--train_text_encoder"]


def as_options(settings: dict[str, Any]) -> list[str]:
    """Settings as options of the command line."""
    return [_option(name.replace("_", "-"), value) for name, value in settings.items()]


def _option(name: str, value: Any) -> str:
    group, key = name.split(".")
    return f"--{group}.{'' if value else 'no-'}{key}" if isinstance(value, bool) else f"--{name}={value}"
