"""Human preference and a vision-language judge as scores: see the rewards `preference:MODEL` and `judge:MODEL`."""

from collections.abc import Callable

from lookforward.core.specs import Resources, ScoreSpec
from lookforward.scores.measure import MeasureScore


def _similarity(label: str, encoder: str) -> Callable[[Resources], MeasureScore]:
    def build(given: Resources) -> MeasureScore:
        from lookforward.models.encoders.similarity import PromptSimilarity

        return MeasureScore(label, PromptSimilarity(getattr(given.encoders, encoder)))

    return build


PICKSCORE, HPSV2 = (
    ScoreSpec(
        name, label, "Would people choose it for this prompt?", _similarity(label, name), on_request=True, encoder=name,
        rewards=("preference",),
    )
    for name, label in (("pickscore", "PickScore"), ("hpsv2", "HPSv2"))
)  # fmt: skip
JUDGE = ScoreSpec(
    "judge",
    "VLM judge",
    "Does a vision-language model see the prompt in it?",
    lambda given: MeasureScore("VLM judge", given.encoders.judge),
    on_request=True,
    encoder="judge",
    rewards=("judge",),
)
