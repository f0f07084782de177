"""The settings in groups, each with its default, its range and its help in one place.

The defaults are those of the paper and its released code for Stable Diffusion 1.4 at 512 pixels.
"""

from dataclasses import dataclass
from typing import Any, Literal

from lookforward.config.spec import setting

RateKind = Literal["constant", "cosine"]
CriticKind = Literal["none", "residual", "state-action"]

_POSITIVE, _NOT_NEGATIVE = "(0, inf)", "[0, inf)"
_WHEN_ONLY: Any = {"free": True, "of_cell": True}  # when something is written, or where it is
_OWN = ("baseline.name", ("none",))
_DRAFT = ("baseline.name", ("draft",))
_DPOK = ("baseline.name", ("dpok",))
_SAMPLED = ("baseline.name", ("draft", "dpok"))
_CRITIC = ("critic.name", ("residual", "state-action"))


@dataclass(frozen=True)
class SubjectSettings:
    """Who is in the photos, and what prompts call it."""

    photos: str = setting("", "Folder of reference photos, or a TOML list of several subjects.", **_WHEN_ONLY)
    class_noun: str = setting("", "What the subject is, such as dog.", of_cell=True)
    identifier: str = setting("sks", "The rare word that names the subject.")
    others: str = setting("", 'Further subjects, such as "zwx=cat; ukj=vase". A TOML list of subjects sets it.')
    noun_in_prompt: bool = setting(
        True, 'Whether prompts say "sks dog"; off if a learned word stands for the whole subject.'
    )


@dataclass(frozen=True)
class DataSettings:
    """How photos become training examples. docs/photos.md explains each."""

    captions: bool = setting(True, "Use dog.txt beside dog.jpg as the prompt of that photo.")
    caption_lines: bool = setting(
        False, "Each line of a caption file is a caption of its own, and each draw takes one; off: lines are joined."
    )
    caption_dropout: float = setting(0.0, "Share of draws whose prompt is empty.", "[0, 1)")
    describe: bool = setting(
        False, "Add to the prompt of a photo without a caption where it was taken, as CLIP recognises it."
    )
    alpha_masks: bool = setting(False, "The transparency of a photo is its mask, if no file is.")
    background_weight: float = setting(0.0, "Weight of what lies outside a photo's mask.", "[0, 1]")
    flip: bool = setting(False, "Train on mirrored photos too.")
    crops: int = setting(1, "Squares cut along the long side of a photo; 1 is the central one.", _POSITIVE)
    buckets: bool = setting(False, "Train on photos in about their own aspect ratio, instead of on squares.")
    bucket_resolutions: str = setting(
        "", 'Further resolutions of buckets, such as "384, 768".', only_with=("data.buckets", (True,))
    )
    augment: bool = setting(False, "Custom Diffusion's augmentation: scaled views whose prompts name the scale.")
    augment_views: int = setting(8, "Scaled views of each square.", _POSITIVE, only_with=("data.augment", (True,)))
    allow_few: bool = setting(False, "Train on fewer than three photos.", free=True)
    resolution: int = setting(512, "Side of the training images in pixels.", _POSITIVE, headline=True)
    class_images: int = setting(8, "Class images for prior preservation, drawn by the untouched model.", _NOT_NEGATIVE)
    class_image_steps: int = setting(50, "Sampler steps of the class images.", _POSITIVE)


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW on the trained weights."""

    learning_rate: float = setting(1e-6, "Learning rate.", _POSITIVE, headline=True)
    decay: float = setting(
        0.0, "Share of the steps, the last ones, over which a constant rate falls to zero.", "[0, 1]"
    )
    word_learning_rate: float = setting(
        0.0,
        "Learning rate of a learned word beside other weights; 0: the same.",
        _NOT_NEGATIVE,
        only_with=("adapter.name", ("pivotal", "custom-diffusion")),
    )
    schedule: RateKind = setting(
        "constant", "The rate after the warm-up: constant, or cosine, down to zero at the end."
    )
    warmup: int = setting(0, "Steps in which the rate rises to its full value.", _NOT_NEGATIVE)
    ema: float = setting(
        0.0, "Decay of the moving average of the trained weights, which samples and exports use; 0: none.", "[0, 1)"
    )
    beta1: float = setting(0.9, "Decay of the gradient's running mean.", "[0, 1)")
    beta2: float = setting(0.999, "Decay of the squared gradient's running mean.", "[0, 1)")
    weight_decay: float = setting(0.01, "Weight decay.", _NOT_NEGATIVE)
    max_grad_norm: float = setting(1.0, "Norm that gradients are clipped to.", _POSITIVE)
    eight_bit: bool = setting(False, "Keep AdamW's two moments in 8 bits, through bitsandbytes.")
    fused: bool = setting(
        False,
        "Update each weight within the backward pass, so that one gradient at a time is in memory; each is then "
        "clipped by itself.",
    )


@dataclass(frozen=True)
class ObjectiveSettings:
    """The reward and the terms of Eq. 11."""

    reward: str = setting(
        "look-forward", 'A reward or a sum such as "look-forward + 0.5*dino"; docs/rewards.md lists all.', headline=True
    )
    reward_gradient: Literal["critic", "direct"] = setting(
        "critic", "How the policy follows the reward: through the critic, or direct through a differentiable reward."
    )
    transition: Literal["reference", "policy"] = setting(
        "reference", "Where an action leads: along the noised photo, or along the policy's own prediction."
    )
    stride: int = setting(20, "Δ, timesteps between a state and the next one.", _POSITIVE)
    decoder: str = setting(
        "", "A tiny autoencoder (AutoencoderTiny) that shows images to a reward; the model's own if empty."
    )
    discount: float = setting(0.9986, "γ, Eq. 9.", "(0, 1]")
    reconstruction_weight: float = setting(1.0, "Weight of the reconstruction loss in Eq. 11.", _NOT_NEGATIVE)
    prior_weight: float = setting(1.0, "Weight of prior preservation.", _NOT_NEGATIVE)
    preservation: Literal["images", "output"] = setting(
        "images",
        "What preserves the class: class images, or the untouched model's own output on the prompt without the "
        "identifier.",
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
    weight: float = setting(0.0, "λ, weight of the reward in Eq. 11.", _NOT_NEGATIVE)
    optimizer: Literal["sgd", "adam"] = setting("sgd", "Optimizer of the critic.", only_with=_CRITIC)
    learning_rate: float = setting(0.01, "Learning rate of the critic.", _POSITIVE, only_with=_CRITIC)
    max_grad_norm: float = setting(
        1.0, "Norm that the critic's gradients are clipped to.", _POSITIVE, only_with=_CRITIC
    )
    steps: int = setting(
        1, "Critic updates for each policy update; 0: the critic never learns.", _NOT_NEGATIVE, only_with=_CRITIC
    )
    warmup: int = setting(0, "Steps before the policy follows the critic.", _NOT_NEGATIVE, only_with=_CRITIC)
    every: int = setting(1, "The critic learns only once in so many steps.", _POSITIVE, only_with=_CRITIC)
    bins: int = setting(
        0, "Ranges of timesteps in which returns are normalised; 0: not at all.", _NOT_NEGATIVE, only_with=_CRITIC
    )
    target: Literal["one-step", "monte-carlo", "bootstrap"] = setting(
        "one-step",
        "The critic's target: the reward of one step, sampled later rewards, or a reward plus the target network.",
        only_with=_CRITIC,
    )
    target_samples: int = setting(
        4, "K, later rewards that monte-carlo samples.", _POSITIVE, only_with=("critic.target", ("monte-carlo",))
    )
    target_momentum: float = setting(
        0.99,
        "Share of its own weights that the target network keeps in a step.",
        "[0, 1)",
        only_with=("critic.target", ("bootstrap",)),
    )


@dataclass(frozen=True)
class BaselineSettings:
    """Other published methods over the same parts, to compare with."""

    name: Literal["none", "draft", "dpok"] = setting("none", "none is the paper's own method.", headline=True)
    sampler_steps: int = setting(50, "Sampler steps that draft and dpok draw with.", _POSITIVE, only_with=_SAMPLED)
    guidance: float = setting(7.5, "Guidance of that sampler; 1 is none.", _NOT_NEGATIVE, only_with=_SAMPLED)
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


@dataclass(frozen=True)
class EvaluationSettings:
    """Images that are drawn to look at, while training and afterwards."""

    sample_every: int = setting(
        100, "Draw samples every so many steps; 0: none while training.", _NOT_NEGATIVE, **_WHEN_ONLY
    )
    sampler_steps: int = setting(50, "Sampler steps of an image.", _POSITIVE)
    guidance: float = setting(7.5, "Classifier-free guidance; 1 is none.")
    every: int = setting(
        0,
        "Measure identity and prompt following every so many steps, and export the best of these; 0: never.",
        _NOT_NEGATIVE,
    )
    images: int = setting(6, "Images of each subject in a measurement.", _POSITIVE)
    validation_steps: int = setting(
        0, "Sampler steps of these images; 0: half of evaluation.sampler_steps.", _NOT_NEGATIVE
    )
    identity_weight: float = setting(
        0.5, "Weight of identity in the best step, prompt following having the rest.", "(0, 1)"
    )
    patience: int = setting(
        0,
        "End the run when the best step lies so many measurements back; 0: take all steps.",
        _NOT_NEGATIVE,
    )


@dataclass(frozen=True)
class RunSettings:
    """How long a run is, and what it saves."""

    recipe: str = setting("look-forward", "The recipe that the settings began from.", of_cell=True, headline=True)
    seed: int = setting(0, "The same seed gives the same run.", "[0, 2^63)", of_cell=True, headline=True)
    steps: int = setting(1000, "Training steps.", _POSITIVE, headline=True)
    batch_size: int = setting(
        1, "Reference photos in a step, over all processes; as many class images join them.", _POSITIVE, headline=True
    )
    accumulate: int = setting(
        1,
        "Batches whose gradients make up one step: as one batch that is so many times larger, in the memory of one.",
        _POSITIVE,
        only_with=("baseline.name", ("none",)),
    )
    checkpoint_every: int = setting(100, "Save a resumable checkpoint every so many steps.", _POSITIVE, **_WHEN_ONLY)
    export_every: int = setting(0, "Export every so many steps; 0: the last step only.", _NOT_NEGATIVE, **_WHEN_ONLY)
