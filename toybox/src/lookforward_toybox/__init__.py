"""Toybox, the bundled model: a small Stable Diffusion, and the world that it was trained on."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Weights:
    """A folder of Toybox's models: the shipped ones, or the export of a training."""

    folder: Path

    @property
    def pipeline(self) -> Path:
        """A StableDiffusionPipeline folder."""
        return self.folder / "pipeline"

    @property
    def clip(self) -> Path:
        """A transformers CLIPModel folder."""
        return self.folder / "clip"

    @property
    def dino(self) -> Path:
        """A transformers ViTModel folder."""
        return self.folder / "dino"

    @property
    def identity(self) -> Path:
        """A transformers ResNetModel folder: a second encoder of identity, for evaluation only."""
        return self.folder / "identity"

    @property
    def judge(self) -> Path:
        """A transformers ResNetForImageClassification folder: classifies what an image shows."""
        return self.folder / "judge"


SHIPPED = Weights(Path(__file__).parent / "weights")
MODEL, CLIP, DINO = SHIPPED.pipeline, SHIPPED.clip, SHIPPED.dino
IDENTITY, JUDGE = SHIPPED.identity, SHIPPED.judge
