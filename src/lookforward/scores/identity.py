"""Identity score: does an image show this very subject, to an encoder that no reward ever uses?

A method that was trained for the DINO score may have learned what DINO likes rather than the subject. This encoder
shares neither weights nor architecture with it.
"""

from lookforward.scores.similarity import similarity_score

IDENTITY = similarity_score(
    "identity", "identity", "Is it this very subject, by an encoder of another architecture, kept for evaluation?",
    "identity", lambda encoders: encoders.identity,
)  # fmt: skip
