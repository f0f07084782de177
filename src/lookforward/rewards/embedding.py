"""Similarity under an encoder of one's own: faces, or whatever a model was trained to tell apart."""

from lookforward.rewards.similarity import similarity_reward

EMBEDDING = similarity_reward(
    "embedding",
    "any vision model: a folder or a hub id",
    "Eq. 10, with another encoder",
    lambda encoders, source: encoders.embedding(source),
    takes_argument="MODEL",
)
