"""Toybox: small models that come with lookforward, and the world that they were trained on."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Weights:
    """A folder of Toybox's models: the shipped ones, or the export of a training."""

    folder: Path

    @property
    def pipeline(self) -> Path:
        """A pipeline folder."""
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


SHIPPED = Weights(Path(__file__).parent / "weights")  # of the 64-pixel edition
SHIPPED_128 = Weights(Path(__file__).parent / "weights_128")
MODEL, CLIP, DINO = SHIPPED.pipeline, SHIPPED.clip, SHIPPED.dino
IDENTITY, JUDGE = SHIPPED.identity, SHIPPED.judge
MODEL_128 = SHIPPED_128.pipeline
