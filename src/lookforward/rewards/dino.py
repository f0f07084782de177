"""DINO similarity, Eq. 10: is it this very subject?

    r(x) = 1/k Σ_j cos(f(x), f(r_j)), f being DINO and r_j the reference photos

Computed by `Similarity` in models/encoders/similarity.py, which the other encoders and the scores share.
"""

from lookforward.rewards.similarity import similarity_reward

DINO = similarity_reward(
    "dino", "DINO", "Eq. 10; Caron et al., 2021", lambda encoders, _: encoders.dino, encoder="dino"
)
