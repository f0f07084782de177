"""Which scores a method's reward optimised, so that they are no evidence for it."""

from lookforward.assembly.evaluators import encoder_sources, scores_trained_on
from lookforward.benchmark.plan import UNTOUCHED, Plan, Scoring
from lookforward.config.settings import Settings
from lookforward.rewards.terms import parse_terms
from lookforward.scores import SCORES


def optimised_scores(settings: Settings, scoring: Scoring | None = None) -> tuple[str, ...]:
    """The scores that use the very encoder of the run's reward.

    A reward and a score of the same name count as that even if the score's encoder was exchanged.
    """
    objective = settings.objective
    rewards = [name for weight, name in parse_terms(objective.reward) if weight] if settings.follows_reward else []
    if objective.preservation == "preference" and objective.prior_weight > 0:  # RPO's labels
        rewards += ["clip-text"] * (objective.preference_identity < 1) + ["dino"] * (objective.preference_identity > 0)
    if not rewards:
        return ()
    chosen = scoring or Scoring()
    sources = encoder_sources(settings.model.name, **chosen.encoders())
    return scores_trained_on(rewards, sources, chosen.extra)


def optimised_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Method to those of the plan's scores that it optimised, for every method."""
    absent = {spec.label for spec in SCORES if spec.on_request and spec.name not in plan.scoring.extra}
    return {
        method: ()
        if method == UNTOUCHED
        else tuple(s for s in optimised_scores(plan.settings(method), plan.scoring) if s not in absent)
        for method in plan.methods
    }
