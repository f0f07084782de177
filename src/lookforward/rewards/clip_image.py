"""CLIP image similarity: does it look like the subject? CLIP largely sees class and scene, DINO the subject."""

from lookforward.rewards.similarity import similarity_reward

CLIP_IMAGE = similarity_reward(
    "clip-image",
    "CLIP's image tower",
    "Radford et al., 2021; Gal et al., 2022",
    lambda encoders, _: encoders.clip.image,
    encoder="clip",
)
