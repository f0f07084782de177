"""DINO score: is it this very subject? (Ruiz et al., DreamBooth, 2023, section 4.1)

DINO was trained to tell images apart without labels, so that it separates subjects of one class, where CLIP-I largely
sees the class.
"""

from lookforward.scores.similarity import similarity_score

DINO = similarity_score("dino", "DINO", "Is it this very subject?", "dino", lambda encoders: encoders.dino)
