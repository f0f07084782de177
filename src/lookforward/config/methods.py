"""The settings of what is learned: the objective, the critic and the baselines; the other groups are in `groups`."""

from dataclasses import dataclass
from typing import Literal

from lookforward.config.spec import setting

CriticKind = Literal["none", "residual", "state-action"]

_POSITIVE, _NOT_NEGATIVE, _GUIDANCE = "(0, inf)", "[0, inf)", "[1, 100]"
_OWN = ("baseline.name", ("none",))
_DRAFT = ("baseline.name", ("draft",))
_DPOK = ("baseline.name", ("dpok",))
_SAMPLED = ("baseline.name", ("draft", "dpok"))
_CRITIC = ("critic.name", ("residual", "state-action"))
_LEARNS = (_CRITIC, ("critic.steps", "(0, inf)"))
_MONTE_CARLO = (*_LEARNS, ("critic.target", ("monte-carlo",)))
_LATER = (*_LEARNS, ("critic.target", ("monte-carlo", "bootstrap")))
_HEARD = (_OWN, ("has_critic_or_direct", (True,)))
_FOLLOWED = ("follows_reward", (True,))


@dataclass(frozen=True)
class ObjectiveSettings:
    """The reward and the terms of Eq. 11."""

    reward: str = setting(
        "look-forward",
        'A reward or a sum such as "look-forward + 0.5*dino"; docs/rewards.md lists all.',
        headline=True,
        only_with=_FOLLOWED,
    )
    reward_gradient: Literal["critic", "direct"] = setting(
        "critic",
        "How the policy follows the reward: through the critic, or direct through a differentiable reward.",
        only_with=_OWN,
    )
    transition: Literal["reference", "policy"] = setting(
        "reference",
        "Where an action leads: along the noised photo, or along the policy's own prediction.",
        only_with=_LATER,
    )
    stride: int = setting(20, "Δ, timesteps between a state and the next one.", _POSITIVE, only_with=_LATER)
    decoder: str = setting(
        "",
        "A tiny autoencoder (AutoencoderTiny) that shows images to a reward; the model's own if empty.",
        only_with=(_FOLLOWED, ("reward_sees_images", (True,))),
    )
    discount: float = setting(0.9986, "γ, Eq. 9.", "(0, 1]", only_with=(_OWN, _FOLLOWED))
    reconstruction_weight: float = setting(
        1.0, "Weight of the reconstruction loss in Eq. 11.", _NOT_NEGATIVE, only_with=_OWN
    )
    prior_weight: float = setting(1.0, "Weight of prior preservation.", _NOT_NEGATIVE)
    preservation: Literal["images", "output"] = setting(
        "images",
        "What preserves the class: class images, or the untouched model's own output on the prompt without the "
        "identifier.",
        only_with=("objective.prior_weight", "(0, inf)"),
    )
    min_snr: float = setting(
        0.0,
        "γ of min-SNR weighting of the reconstruction loss, 5 in its paper; 0: none. For models that predict noise or "
        "v.",
        _NOT_NEGATIVE,
        only_with=_OWN,
    )


@dataclass(frozen=True)
class CriticSettings:
    """The critic Q_φ and what it learns."""

    name: CriticKind = setting("none", "Which critic learns the return.")
    weight: float = setting(0.0, "λ, weight of the reward in Eq. 11.", _NOT_NEGATIVE, only_with=_HEARD)
    optimizer: Literal["sgd", "adam"] = setting("sgd", "Optimizer of the critic.", only_with=_LEARNS)
    learning_rate: float = setting(0.01, "Learning rate of the critic.", "(0, 100]", only_with=_LEARNS)
    max_grad_norm: float = setting(
        1.0, "Norm that the critic's gradients are clipped to.", _POSITIVE, only_with=_LEARNS
    )
    steps: int = setting(
        1, "Critic updates for each policy update; 0: the critic never learns.", _NOT_NEGATIVE, only_with=_CRITIC
    )
    warmup: int = setting(0, "Steps before the policy follows the critic.", _NOT_NEGATIVE, only_with=_CRITIC)
    every: int = setting(1, "The critic learns only once in so many steps.", _POSITIVE, only_with=_LEARNS)
    bins: int = setting(
        0, "Ranges of timesteps in which returns are normalised; 0: not at all.", _NOT_NEGATIVE, only_with=_LEARNS
    )
    target: Literal["one-step", "monte-carlo", "bootstrap"] = setting(
        "one-step",
        "The critic's target: the reward of one step, sampled later rewards, or a reward plus the target network.",
        only_with=_LEARNS,
    )
    target_samples: int = setting(
        4,
        "K, later rewards that monte-carlo samples.",
        _POSITIVE,
        only_with=_MONTE_CARLO,
    )
    target_momentum: float = setting(
        0.99,
        "Share of its own weights that the target network keeps in a step.",
        "[0, 1)",
        only_with=(*_LEARNS, ("critic.target", ("bootstrap",))),
    )


@dataclass(frozen=True)
class BaselineSettings:
    """Other published methods over the same parts, to compare with."""

    name: Literal["none", "draft", "dpok"] = setting("none", "none is the paper's own method.", headline=True)
    sampler_steps: int = setting(50, "Sampler steps that draft and dpok draw with.", _POSITIVE, only_with=_SAMPLED)
    guidance: float = setting(7.5, "Guidance of that sampler; 1 is none.", _GUIDANCE, only_with=_SAMPLED)
    draft_last: int = setting(1, "K, sampler steps that the gradient passes through.", _POSITIVE, only_with=_DRAFT)
    draft_noises: int = setting(0, "n of DRaFT-LV; 0 is DRaFT-K.", _NOT_NEGATIVE, only_with=_DRAFT)
    dpok_trajectories: int = setting(6, "Trajectories drawn in a step.", "[2, inf)", only_with=_DPOK)
    dpok_updates: int = setting(1, "Weight updates for each draw of trajectories.", _POSITIVE, only_with=_DPOK)
    dpok_pairs: int = setting(24, "Pairs of trajectory and timestep in one update.", _POSITIVE, only_with=_DPOK)
    dpok_micro_batch: int = setting(
        24, "Pairs in the denoiser at a time; memory depends on it.", _POSITIVE, machine_only=True, only_with=_DPOK
    )
    dpok_reward_weight: float = setting(100.0, "α, weight of the reward.", _POSITIVE, only_with=_DPOK)
    dpok_kl: float = setting(0.01, "β, weight of the distance to the untouched model.", _NOT_NEGATIVE, only_with=_DPOK)
    dpok_clip: float = setting(
        1e-4, "Largest distance from 1 at which an importance ratio counts.", _POSITIVE, only_with=_DPOK
    )
