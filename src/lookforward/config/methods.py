"""Settings of the objective, the critic and the baselines; the other groups are in `groups`."""

from dataclasses import dataclass
from typing import Literal

from lookforward.config.spec import setting

CriticKind = Literal["none", "residual", "state-action"]

_POSITIVE, _NOT_NEGATIVE, _GUIDANCE = "(0, inf)", "[0, inf)", "[1, 100]"
_WEIGHT = "[0, 1000000]"
_OWN = ("baseline.name", ("none",))
_DRAFT = ("baseline.name", ("draft",))
COMPARED = ("dpok", "flow-grpo", "diffusion-nft")
"""Baselines that compare images of one prompt and train the denoiser alone."""

_COMPARED, _RATIO = ("baseline.name", COMPARED), ("baseline.name", ("dpok", "flow-grpo"))
_DPOK, _NFT = ("baseline.name", ("dpok",)), ("baseline.name", ("diffusion-nft",))
_SAMPLED = ("baseline.name", ("draft", *COMPARED))
_CRITIC = ("critic.name", ("residual", "state-action"))
_LEARNS = (_CRITIC, ("critic.steps", "(0, inf)"))
_MONTE_CARLO = (*_LEARNS, ("critic.target", ("monte-carlo",)))
_LATER = (*_LEARNS, ("critic.target", ("monte-carlo", "bootstrap")))
_HEARD = (_OWN, ("has_critic_or_direct", (True,)))
_FOLLOWED = ("follows_reward", (True,))
_PREFERENCE = (("objective.prior_weight", "(0, inf)"), ("objective.preservation", ("preference",)))


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
        "How the next state is computed: from the noised photo, or from the policy's prediction.",
        only_with=_LATER,
    )
    stride: int = setting(20, "Δ, timesteps between a state and the next state.", "[1, 1000]", only_with=_LATER)
    decoder: str = setting(
        "",
        "Tiny autoencoder (AutoencoderTiny) that decodes images for the reward. Empty: the autoencoder of the model.",
        only_with=(_FOLLOWED, ("reward_sees_images", (True,))),
    )
    discount: float = setting(0.9986, "γ, Eq. 9.", "(0, 1]", only_with=(_OWN, _FOLLOWED))
    reconstruction_weight: float = setting(1.0, "Weight of the reconstruction loss in Eq. 11.", _WEIGHT, only_with=_OWN)
    prior_weight: float = setting(1.0, "Weight of prior preservation.", _WEIGHT)
    preservation: Literal["images", "output", "preference"] = setting(
        "images",
        "Prior preservation with class images, or with the output of the base model for the prompt without the "
        "identifier; preference: RPO's loss in its place, which prefers photos to images that the base model draws.",
        only_with=("objective.prior_weight", "(0, inf)"),
    )
    preference_beta: float = setting(1.0, "β of RPO, how sharply it prefers.", "(0, 1000000]", only_with=_PREFERENCE)
    preference_identity: float = setting(
        0.0,
        "λ of RPO's reward for labels: weight of likeness to the photos; text alignment has the rest.",
        "[0, 1]",
        only_with=_PREFERENCE,
    )
    preference_images: int = setting(
        4, "Images that the base model draws for each of RPO's prompts.", "[1, 1000]", only_with=_PREFERENCE
    )
    dco: float = setting(
        0.0,
        "β of direct consistency optimization, whose loss takes the place of the reconstruction loss; 1000 in its "
        "paper, 0: none.",
        _WEIGHT,
        only_with=_OWN,
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
    """The critic Q_φ and its target."""

    name: CriticKind = setting("none", "Architecture of the critic. none: no critic.")
    weight: float = setting(0.0, "λ, weight of the reward in Eq. 11.", _WEIGHT, only_with=_HEARD)
    optimizer: Literal["sgd", "adam"] = setting("sgd", "Optimizer of the critic.", only_with=_LEARNS)
    learning_rate: float = setting(0.01, "Learning rate of the critic.", "(0, 100]", only_with=_LEARNS)
    max_grad_norm: float = setting(
        1.0, "Maximum gradient norm of the critic, for clipping.", _POSITIVE, only_with=_LEARNS
    )
    steps: int = setting(
        1, "Critic updates for each policy update; 0: never update the critic.", "[0, 10000]", only_with=_CRITIC
    )
    warmup: int = setting(0, "Steps before the policy follows the critic.", _NOT_NEGATIVE, only_with=_CRITIC)
    every: int = setting(1, "Update the critic every N steps.", _POSITIVE, only_with=_LEARNS)
    bins: int = setting(
        0, "Number of timestep bins for normalising returns. 0: no normalisation.", "[0, 1000]", only_with=_LEARNS
    )
    target: Literal["one-step", "monte-carlo", "bootstrap"] = setting(
        "one-step",
        "The critic's target: the reward of one step, sampled later rewards, or a reward plus the target network.",
        only_with=_LEARNS,
    )
    target_samples: int = setting(
        4,
        "K, number of later rewards that monte-carlo samples.",
        "[1, 1000]",
        only_with=_MONTE_CARLO,
    )
    target_momentum: float = setting(
        0.99,
        "Momentum of the soft update of the target network.",
        "[0, 1)",
        only_with=(*_LEARNS, ("critic.target", ("bootstrap",))),
    )


@dataclass(frozen=True)
class BaselineSettings:
    """Other published methods, for comparison."""

    name: Literal["none", "draft", "dpok", "flow-grpo", "diffusion-nft"] = setting(
        "none", "Baseline method. none: the method of the paper.", headline=True
    )
    sampler_steps: int = setting(50, "Sampler steps of the baseline.", _POSITIVE, only_with=_SAMPLED)
    guidance: float = setting(
        7.5, "Scale of classifier-free guidance in that sampler. 1: no guidance.", _GUIDANCE, only_with=_SAMPLED
    )
    draft_last: int = setting(1, "K, number of last sampler steps that receive gradients.", _POSITIVE, only_with=_DRAFT)
    draft_noises: int = setting(0, "n, number of noise samples of DRaFT-LV. 0: DRaFT-K.", "[0, 1000]", only_with=_DRAFT)
    dpok_trajectories: int = setting(6, "Trajectories sampled per step.", "[2, 10000]", only_with=_COMPARED)
    dpok_updates: int = setting(1, "Weight updates for each set of trajectories.", "[1, 10000]", only_with=_COMPARED)
    dpok_pairs: int = setting(24, "Pairs of trajectory and timestep per update.", "[1, 10000000]", only_with=_COMPARED)
    dpok_micro_batch: int = setting(
        24, "Pairs per forward pass of the denoiser; affects memory.", _POSITIVE, machine_only=True, only_with=_COMPARED
    )
    dpok_reward_weight: float = setting(100.0, "α, weight of the reward.", "(0, 1000000]", only_with=_DPOK)
    dpok_kl: float = setting(0.01, "Weight of the KL term to the base model.", _WEIGHT, only_with=_COMPARED)
    dpok_clip: float = setting(1e-4, "ε, clipping range of the importance ratio around 1.", _POSITIVE, only_with=_RATIO)
    grpo_noise: float = setting(
        0.7, "a, noise of each step of Flow-GRPO's sampler.", "(0, 10]", only_with=("baseline.name", ("flow-grpo",))
    )
    nft_beta: float = setting(
        1.0, "β of DiffusionNFT, how far its two policies lie from the sampling one.", "(0, 100]", only_with=_NFT
    )
    nft_kept: float = setting(
        0.5, "η, the most that DiffusionNFT's sampling policy keeps of itself in a step.", "[0, 1)", only_with=_NFT
    )
