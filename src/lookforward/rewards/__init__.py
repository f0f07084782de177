"""The rewards, one small file each; docs/rewards.md has the table."""

from lookforward.core.specs import RewardSpec, installed
from lookforward.rewards.clip_image import CLIP_IMAGE
from lookforward.rewards.clip_text import CLIP_TEXT
from lookforward.rewards.dino import DINO
from lookforward.rewards.dinov2 import DINOV2
from lookforward.rewards.embedding import EMBEDDING
from lookforward.rewards.judge import JUDGE
from lookforward.rewards.look_forward import LOOK_FORWARD
from lookforward.rewards.noise import NOISE
from lookforward.rewards.perceptual import DREAMSIM, LPIPS
from lookforward.rewards.preference import PREFERENCE
from lookforward.rewards.ssim import SSIM

REWARDS: tuple[RewardSpec, ...] = (
    LOOK_FORWARD, NOISE, DINO, DINOV2, CLIP_IMAGE, CLIP_TEXT, EMBEDDING, SSIM, LPIPS, DREAMSIM, PREFERENCE, JUDGE,
    *installed("lookforward.rewards"),
)  # fmt: skip
