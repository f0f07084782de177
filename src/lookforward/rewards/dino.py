"""DINO similarity, Eq. 10: is it this very subject?"""

from lookforward.rewards.similarity import similarity_reward

DINO = similarity_reward(
    "dino", "DINO", "Eq. 10; Caron et al., 2021", lambda encoders, _: encoders.dino, encoder="dino"
)
