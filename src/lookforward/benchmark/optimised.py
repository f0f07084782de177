"""Which scores a method's reward optimised, so that they are no evidence for it."""

from lookforward.assembly.evaluators import DINOV2, clip_source, dino_source
from lookforward.benchmark.plan import UNTOUCHED, Plan, Scoring
from lookforward.config.settings import Settings
from lookforward.rewards.terms import parse_terms

_SCORE_OF_REWARD = {
    "dino": "DINO",
    "clip-image": "CLIP-I",
    "clip-text": "CLIP-T",
    "dinov2": "DINOv2",
    "dreamsim": "DreamSim",
    "lpips": "diversity",
}
_ON_REQUEST = {"DINOv2": "dinov2", "DreamSim": "dreamsim", "diversity": "diversity"}  # score to its word in `extra`


def optimised_scores(settings: Settings, scoring: Scoring | None = None) -> tuple[str, ...]:
    """The scores that use the very encoder of the run's reward.

    A reward and a score of the same name count as that even if the score's encoder was exchanged.
    """
    if not settings.follows_reward:
        return ()
    chosen = scoring or Scoring()
    by_model = {
        chosen.dino or dino_source(settings.model.name): "DINO",
        chosen.clip or clip_source(settings.model.name): "CLIP-I",
        chosen.dinov2 or DINOV2: "DINOv2",
    }
    score_of = _SCORE_OF_REWARD | {f"embedding:{model}": score for model, score in by_model.items()}
    score_of |= {name: name for name in chosen.extra if ":" in name}  # the user's own
    rewards = [name for weight, name in parse_terms(settings.objective.reward) if weight]
    return tuple(dict.fromkeys(score for reward, score in score_of.items() if reward in rewards))


def optimised_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Method to those of the plan's scores that it optimised, for every method."""
    absent = {score for score, word in _ON_REQUEST.items() if word not in plan.scoring.extra}
    return {
        method: ()
        if method == UNTOUCHED
        else tuple(s for s in optimised_scores(plan.settings(method), plan.scoring) if s not in absent)
        for method in plan.methods
    }
