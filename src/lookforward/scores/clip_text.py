"""CLIP-T score: does the image show what the prompt says? (Radford et al., 2021)

CLIP-T(x, y) = cos(g(x), h(y)), in [-1, 1], higher is better. CLIP never saw the identifier: give the prompts without it
("a photo of a dog on the beach").
"""

from lookforward.core.specs import Resources, ScoreSpec
from lookforward.scores.measure import MeasureScore


def _build(given: Resources) -> MeasureScore:
    from lookforward.models.encoders.similarity import PromptSimilarity

    return MeasureScore("CLIP-T", PromptSimilarity(given.encoders.clip))


CLIP_TEXT = ScoreSpec(
    "clip-text", "CLIP-T", "Does the image show what the prompt says?", _build, encoder="clip", rewards=("clip-text",)
)
