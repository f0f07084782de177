"""CLIP-I score: does it look like the subject? (Gal et al., Textual Inversion, 2022)

It also rises where the scene of the references is copied: read it beside CLIP-T.
"""

from lookforward.scores.similarity import similarity_score

CLIP_IMAGE = similarity_score(
    "clip-image", "CLIP-I", "Does it look like the subject?", "clip", lambda encoders: encoders.clip.image)  # fmt: skip
