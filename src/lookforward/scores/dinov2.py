"""DINOv2 score: is it this very subject? (Oquab et al., 2023) By a later encoder than DINO, of the same family."""

from lookforward.scores.similarity import similarity_score

DINOV2 = similarity_score(
    "dinov2", "DINOv2", "Is it this very subject, by DINOv2?", "dinov2", lambda encoders: encoders.dinov2,
    on_request=True)  # fmt: skip
