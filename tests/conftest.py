"""A tiny Stable Diffusion with random weights: the classes of the real one, small enough for a test."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from hypothesis import settings
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from jobs import SETTINGS, Command
from lookforward import Personalized, personalize
from lookforward.bundle import TOYBOX
from lookforward.cli import main
from lookforward_toybox.models import MODELS
from lookforward_toybox.subjects import write_photos
from lookforward_toybox.training.tokenizer import build_tokenizer

if TYPE_CHECKING:
    from lookforward.studio.state import Studio

settings.register_profile("steady", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("steady")

CAPTIONS = ["a photo of a red dog on the beach", "a photo of a vase in the snow", "a teapot in the jungle"]


# diffusers types these parameters more narrowly than it takes them
NO_SAFETY_CHECKER: dict[str, Any] = {
    "safety_checker": None,
    "feature_extractor": None,
    "requires_safety_checker": False,
}


def vae_blocks(*channels: int) -> dict[str, Any]:
    """Channels and blocks of an AutoencoderKL."""
    return {
        "block_out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
    }


def special_tokens(tokenizer: Any) -> dict[str, Any]:
    """Ids of the tokens that begin and end a prompt, for a CLIPTextConfig."""
    return {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}


def make_pipeline(seed: int = 0, prediction: str = "epsilon") -> StableDiffusionPipeline:
    """32-pixel images, 8×8 latents, some 100,000 parameters."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(CAPTIONS)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        **special_tokens(tokenizer),
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        **vae_blocks(8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=32,
        scaling_factor=0.7,
    )
    scheduler: Any = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,  # pyright: ignore[reportArgumentType]
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        **NO_SAFETY_CHECKER,
    )
    pipeline.set_progress_bar_config(disable=True)
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        module.requires_grad_(False).eval()
    return pipeline


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder."""
    folder = tmp_path_factory.mktemp("model")
    make_pipeline().save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photos of one of Toybox's held-out subjects."""
    folder = tmp_path_factory.mktemp("photos") / "teapot-0"
    write_photos("teapot-0", folder)
    return folder


@pytest.fixture(autouse=True)
def _default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """In tests `toybox` is the 64-pixel model, on which recordings stand; test_toybox_editions.py tries the other."""
    monkeypatch.setitem(MODELS, TOYBOX, MODELS["toybox-sd"])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prior images of tests do not go into the user's cache; they are shared between tests."""
    monkeypatch.setenv("LOOKFORWARD_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def save_image(path: Path, seed: int = 0, size: int = 64) -> Path:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def command_line(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command: its status, and what it says on stdout and on stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        out, err = capfd.readouterr()
        return status, out, err

    return call


@pytest.fixture
def train(tiny_model: Path, photos: Path, tmp_path: Path) -> Any:
    def call(name: str, steps: int, **given: Any) -> Personalized:
        settings = {**SETTINGS, "model.name": str(tiny_model), **given, "run.steps": steps}
        return personalize(photos, "teapot", output=tmp_path / name, recipe="dreambooth", settings=settings)

    return call


@pytest.fixture
def studio(tmp_path: Path) -> "Studio":
    """The studio of an empty folder."""
    from lookforward.studio.state import open_studio
    from lookforward.studio.workspace import Workspace

    return open_studio(Workspace(tmp_path))


@pytest.fixture
def with_photos(studio: "Studio", photos: Path) -> "Studio":
    """A subject, teapot, with five photos and consent."""
    from lookforward.studio.subjects import remember

    folder = studio.workspace.subject("teapot")
    folder.mkdir()
    for path in photos.glob("*.png"):
        (folder / path.name).write_bytes(path.read_bytes())
    remember(studio, "teapot", "teapot", agreed=True)
    return studio
