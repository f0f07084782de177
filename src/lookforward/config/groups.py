"""The settings in groups, each with its default, its range and its help in one place.

The defaults are those of the paper and its released code for Stable Diffusion 1.4 at 512 pixels.
"""

from dataclasses import dataclass
from typing import Any, Literal

from lookforward.config.spec import setting

RateKind = Literal["constant", "cosine"]

_POSITIVE, _NOT_NEGATIVE = "(0, inf)", "[0, inf)"
_WHEN_ONLY: Any = {"free": True, "of_cell": True}  # when something is written, or where it is
_PRESERVED = (("objective.prior_weight", "(0, inf)"), ("objective.preservation", ("images",)))
_PRIOR = (*_PRESERVED, ("data.class_folder", ("",)))
_MEASURED = ("evaluation.every", "(0, inf)")
_GUIDANCE, _RATE = "[1, 100]", "(0, 10]"


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
        False,
        "Each line of a caption file is a caption of its own, and each draw takes one; off: lines are joined.",
        only_with=("data.captions", (True,)),
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
    class_images: int = setting(
        8, "Class images for prior preservation, drawn by the untouched model.", _NOT_NEGATIVE, only_with=_PRIOR
    )
    class_folder: str = setting(
        "", "Folder of your own class images, all of which are used; drawn if empty.", only_with=_PRESERVED
    )
    class_image_steps: int = setting(50, "Sampler steps of the class images.", _POSITIVE, only_with=_PRIOR)


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW on the trained weights."""

    learning_rate: float = setting(1e-6, "Learning rate.", _RATE, headline=True)
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
class EvaluationSettings:
    """Images that are drawn to look at, while training and afterwards."""

    sample_every: int = setting(
        100, "Draw samples every so many steps; 0: none while training.", _NOT_NEGATIVE, **_WHEN_ONLY
    )
    prompts: str = setting(
        "",
        "File with the prompts of these samples, one a line, {} for the subject; four scenes if empty.",
        only_with=("evaluation.sample_every", "(0, inf)"),
        **_WHEN_ONLY,
    )
    sampler_steps: int = setting(50, "Sampler steps of an image.", _POSITIVE)
    guidance: float = setting(7.5, "Classifier-free guidance; 1 is none.", _GUIDANCE)
    every: int = setting(
        0,
        "Measure identity and prompt following every so many steps, and export the best of these; 0: never.",
        _NOT_NEGATIVE,
    )
    images: int = setting(6, "Images of each subject in a measurement.", _POSITIVE, only_with=_MEASURED)
    validation_steps: int = setting(
        0, "Sampler steps of these images; 0: half of evaluation.sampler_steps.", _NOT_NEGATIVE, only_with=_MEASURED
    )
    identity_weight: float = setting(
        0.5, "Weight of identity in the best step, prompt following having the rest.", "(0, 1)", only_with=_MEASURED
    )
    patience: int = setting(
        0,
        "End the run when the best step lies so many measurements back; 0: take all steps.",
        _NOT_NEGATIVE,
        only_with=_MEASURED,
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
