"""The scores, one small file each; docs/scores.md explains them."""

from lookforward.bundle import find_bundle
from lookforward.core.specs import ScoreSpec, installed
from lookforward.scores.clip_image import CLIP_IMAGE
from lookforward.scores.clip_text import CLIP_TEXT
from lookforward.scores.dino import DINO
from lookforward.scores.dinov2 import DINOV2
from lookforward.scores.diversity import DIVERSITY
from lookforward.scores.dreamsim import DREAMSIM
from lookforward.scores.identity import IDENTITY
from lookforward.scores.preference import HPSV2, JUDGE, PICKSCORE

_bundle = find_bundle()
# In the order in which they are taken and shown
SCORES: tuple[ScoreSpec, ...] = (
    DINO, CLIP_IMAGE, CLIP_TEXT, IDENTITY, *(_bundle.SCORES if _bundle else ()), DINOV2, DREAMSIM, DIVERSITY,
    PICKSCORE, HPSV2, JUDGE,
    *installed("lookforward.scores"),
)  # fmt: skip
