"""What a run is made of, as plain values: defaults, a recipe over them, the user's words over both.

The defaults are the paper's and its released code's for Stable Diffusion 1.4 at 512 pixels. A recipe is a
short TOML file of differences; its table [toybox] holds what differs further on the bundled model.
"""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import cattrs

from lookforward.bundle import TOYBOX
from lookforward.errors import LookforwardError

Precision = Literal["fp32", "bf16"]
CriticKind = Literal["none", "residual", "state-action"]
AdapterKind = Literal["full", "lora", "dora", "custom-diffusion", "textual-inversion", "p-plus", "neti"]

# What only place, time and memory depend on
OF_THE_MACHINE = ("device", "gradient_checkpointing", "dpok_at_once")
WORD_ADAPTERS = ("custom-diffusion", "textual-inversion", "p-plus", "neti")  # learn a word of their own


@dataclass(frozen=True)
class Config:
    """One run. Rates are per step, weights without unit, lengths in pixels."""

    photos: str = ""  # folder of reference photos, or a TOML list of several subjects
    class_noun: str = ""
    identifier: str = "sks"
    others: str = ""  # further subjects, "zwx=cat; ukj=vase", where there is a list
    model: str = TOYBOX  # "toybox", a pipeline folder or a hub id
    recipe: str = "look-forward"
    seed: int = 0
    precision: Precision = "fp32"
    device: str = "auto"  # "cpu", "cuda", "mps"; auto: an accelerator where there is one
    gradient_checkpointing: bool = False  # compute activations anew instead of keeping them: less memory, more time

    describe: bool = False  # tell in its prompt where a photo without a caption was taken, as CLIP sees it
    captions: bool = True  # whether dog.txt beside dog.jpg is that photo's prompt; docs/photos.md has all of these
    background_weight: float = 0.0  # of what lies outside a photo's mask
    flip: bool = False  # mirror images are learned too
    crops: int = 1  # squares along the long side of a photo; 1 is the central one
    augment: bool = False  # Custom Diffusion's: scaled views whose prompts tell the scale
    augment_views: int = 8  # of each square

    resolution: int = 512
    steps: int = 1000
    batch: int = 1  # reference photos in a step; as many prior images join them
    learning_rate: float = 1e-6
    rate_decay: float = 0.0  # share of the steps, the last ones, over which the rate falls to nothing
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0

    adapter: AdapterKind = "full"  # what is trained; docs/adapters.md
    train_text_encoder: bool = True  # by full, lora and dora
    noun_in_prompt: bool = True  # "a photo of sks dog"; off where a learned word stands for the whole subject
    lora_rank: int = 4  # of lora and dora
    lora_alpha: float = 4.0  # the learned change is scaled by alpha / rank
    initial_word: str = ""  # whose embedding a learned word begins with; the class noun if empty
    word_vectors: int = 1  # tokens that a learned word is made of, with textual-inversion
    neti_width: int = 128  # of the mapper's hidden layers
    neti_bypass: float = 0.2  # α, the mapper's share of what is added behind the text encoder
    neti_dropout: float = 0.5  # how often nested dropout cuts the mapper's hidden layer short

    method: Literal["dpg", "draft", "dpok"] = "dpg"  # dpg: the paper's; the others to compare with
    reward: str = "look-forward"  # a sum such as "look-forward + 0.5*dino"; docs/rewards.md names all
    route: Literal["critic", "direct"] = "critic"  # direct: through the reward itself, where that is differentiable
    transition: Literal["reference", "policy"] = "reference"  # where an action leads
    stride: int = 20  # Δ, timesteps between a state and the next one, where the target looks at later ones
    decoder: str = ""  # a tiny autoencoder (AutoencoderTiny) to show images to a reward; the model's own if empty

    critic: CriticKind = "none"
    critic_weight: float = 0.0  # λ, Eq. 11
    critic_optimizer: Literal["sgd", "adam"] = "sgd"
    critic_learning_rate: float = 0.01
    critic_max_grad_norm: float = 1.0
    critic_steps: int = 1  # for each of the policy; 0: it never learns
    critic_warmup: int = 0  # steps before the policy listens to the critic
    critic_every: int = 1  # the critic learns in every so many steps only
    critic_bins: int = 0  # ranges of timesteps in which returns are brought to one scale; 0: as they are
    target: Literal["one-step", "monte-carlo", "bootstrap"] = "one-step"
    target_samples: int = 4  # K, later rewards that monte-carlo looks at
    slow_critic: float = 0.99  # how much of itself the target critic of bootstrap keeps in a step
    discount: float = 0.9986  # γ
    noise_weight: float = 1.0  # of ‖ε - ε_θ‖² in Eq. 11
    prior_weight: float = 1.0  # of prior preservation
    prior_images: int = 8
    prior_steps: int = 50  # of the sampler that draws the prior images
    guidance: float = 7.5

    chain_steps: int = 50  # of the sampler that draft and dpok draw with
    chain_guidance: float = 7.5  # of that sampler; 1 is none
    draft_last: int = 1  # K, steps of the chain that the gradient goes through
    draft_noises: int = 0  # n of DRaFT-LV; 0 is DRaFT-K
    dpok_trajectories: int = 6  # drawn in a step
    dpok_updates: int = 1  # of the weights for one draw of trajectories
    dpok_pairs: int = 24  # of trajectory and timestep in one update
    dpok_at_once: int = 24  # of these, in the denoiser together: what is in memory depends on it
    dpok_reward_weight: float = 100.0  # α
    dpok_kl: float = 0.01  # β, weight of the distance to the untouched model
    dpok_clip: float = 1e-4  # how far from 1 an importance ratio counts

    checkpoint_every: int = 100
    sample_every: int = 100  # 0: no samples while training
    export_every: int = 0  # steps; 0: the last one alone
    sample_steps: int = 50
    allow_few: bool = False

    @property
    def follows_reward(self) -> bool:
        """Whether the reward has a say in what is trained."""
        learned = self.critic != "none" and self.critic_steps > 0
        return self.method != "dpg" or (self.critic_weight > 0 and (learned or self.route == "direct"))


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LookforwardError(f"{path} is not TOML: {error}.") from error
    except OSError as error:
        raise LookforwardError(f"{path} cannot be read: {error.strerror}.") from error


def structure(values: Mapping[str, Any], where: str) -> Config:
    """Plain values to a checked Config; unknown keys and wrong kinds are errors that name the key."""
    kinds = {f.name: f.type for f in dataclasses.fields(Config)}
    unknown = sorted(set(values) - set(kinds))
    if unknown:
        raise LookforwardError(f"Unknown setting {', '.join(unknown)} in {where}. Known: {', '.join(kinds)}.")
    for name, value in values.items():
        _check_kind(name, value, kinds[name], where)
    return _check_ranges(cattrs.structure(dict(values), Config))


def _check_kind(name: str, value: Any, kind: Any, where: str) -> None:
    # cattrs would turn "3" into 3 and 1 into True without a word
    choices = get_args(kind)
    if choices:
        if value not in choices:
            raise LookforwardError(f"{name} = {value!r} in {where}: choose one of {', '.join(choices)}.")
        return
    allowed = (int, float) if kind is float else (kind,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise LookforwardError(f"{name} = {value!r} in {where} must be of type {kind.__name__}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise LookforwardError(f"{name} = {value} in {where} must be a finite number.")


def _check_ranges(config: Config) -> Config:
    positive = ("resolution", "steps", "batch", "learning_rate", "critic_learning_rate", "checkpoint_every", "stride")
    also = ("sample_steps", "prior_steps", "max_grad_norm", "critic_max_grad_norm", "critic_every")
    chain = (
        "chain_steps",
        "draft_last",
        "dpok_updates",
        "dpok_pairs",
        "dpok_at_once",
        "dpok_reward_weight",
        "dpok_clip",
    )
    for name in (*positive, *also, *chain, "target_samples", "crops", "augment_views"):
        if not getattr(config, name) > 0:
            raise LookforwardError(f"{name} = {getattr(config, name)} must be greater than 0.")
    for name in (
        "critic_weight",
        "noise_weight",
        "prior_weight",
        "prior_images",
        "weight_decay",
        "sample_every",
        "export_every",
        "critic_steps",
        "critic_warmup",
        "critic_bins",
        "chain_guidance",
        "draft_noises",
        "dpok_kl",
    ):
        if not getattr(config, name) >= 0:
            raise LookforwardError(f"{name} = {getattr(config, name)} must not be negative.")
    if not 0 <= config.seed < 2**63:
        raise LookforwardError(f"seed = {config.seed} must lie in [0, 2^63).")
    for name in ("background_weight", "rate_decay"):
        if not 0 <= getattr(config, name) <= 1:
            raise LookforwardError(f"{name} = {getattr(config, name)} must lie in [0, 1].")
    if not 0 < config.discount <= 1:
        raise LookforwardError(f"discount = {config.discount} must lie in (0, 1].")
    for name in ("slow_critic", "adam_beta1", "adam_beta2"):
        if not 0 <= getattr(config, name) < 1:
            raise LookforwardError(f"{name} = {getattr(config, name)} must lie in [0, 1).")
    if config.route == "direct" and config.critic != "none":
        raise LookforwardError("route = 'direct' follows the reward itself: set critic to none beside it.")
    _check_method(config)
    if config.prior_weight > 0 and config.prior_images == 0:
        raise LookforwardError("prior_weight is set but prior_images is 0; give some, or set prior_weight to 0.")
    return config


def require_teaching(config: Config) -> Config:
    """Raise LookforwardError where a run would learn of nothing; one that began before this was asked may be read."""
    # A critic that never learns is heard all the same: there is such an ablation
    heard = config.critic_weight > 0 and (config.critic != "none" or config.route == "direct")
    if config.method == "dpg" and config.noise_weight == 0 and not heard:
        raise LookforwardError(
            "Nothing to learn from: noise_weight is 0, and no reward is followed, for which critic_weight must be above"
            " 0 and either critic be other than none or route direct. Set one of them."
        )
    return config


def _check_method(config: Config) -> None:
    if config.method == "dpg":
        return
    if config.critic != "none" or config.route == "direct":
        raise LookforwardError(f"method = {config.method!r} has no critic: set critic to none and route to critic.")
    if config.method == "draft" and config.draft_last > config.chain_steps:
        raise LookforwardError(
            f"draft_last = {config.draft_last} is more than the {config.chain_steps} steps of the chain: lower it, or "
            "raise chain_steps."
        )
    if config.draft_noises and config.draft_last != 1:
        raise LookforwardError("draft_noises is for draft_last = 1 only.")
    if config.method == "dpok" and config.train_text_encoder:
        raise LookforwardError("method = 'dpok' trains no text encoder: set train_text_encoder to false.")
    if config.method == "dpok" and config.dpok_trajectories < 2:
        raise LookforwardError("dpok_trajectories must be at least 2: each is the baseline of the others.")


def to_toml(config: Config) -> str:
    """The config as TOML, in the order of its fields."""
    lines = [f"{f.name} = {_toml_value(getattr(config, f.name))}" for f in dataclasses.fields(config)]
    return "\n".join(lines) + "\n"


def _toml_value(value: bool | int | float | str) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            escaped = "".join(
                {"\\": "\\\\", '"': '\\"'}.get(c) or (f"\\u{ord(c):04X}" if ord(c) < 32 or ord(c) == 127 else c)
                for c in value
            )
            return f'"{escaped}"'
        case _:
            return repr(value)
