"""DINOv2 similarity: Eq. 10 with a later encoder. The DINO score is then of another encoder, of the same family."""

from lookforward.rewards.similarity import similarity_reward

DINOV2 = similarity_reward(
    "dinov2", "DINOv2", "Oquab et al., 2023", lambda encoders, _: encoders.dinov2, encoder="dinov2"
)
