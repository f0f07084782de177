"""Similarity under an encoder of your own: for faces, or whatever it was trained to distinguish."""

from lookforward.rewards.similarity import similarity_reward

EMBEDDING = similarity_reward(
    "embedding",
    "any vision model: a folder or a hub id",
    "Eq. 10, with another encoder",
    lambda encoders, source: encoders.embedding(source),
    takes_argument="MODEL",
)
