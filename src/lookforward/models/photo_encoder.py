"""The photo encoder of ELITE (Wei et al., 2023, arXiv 2302.13848): from photos of a subject to a word and details.

An encoder is a folder: `encoder.safetensors`, `encoder.json` with the sizes and the models that it belongs to, and
`SHA256SUMS`. `GlobalMapping` maps the features of several layers of a CLIP image encoder to words, the deepest layer's
first; `LocalMapping` maps its patches to details, which the cross-attentions read (`DetailProjections`).
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lookforward.core.protocols import Family
from lookforward.errors import LookforwardError, first_line
from lookforward.files import read_json, structure, write_json, write_tensors
from lookforward.models.encoders import ClipEncoders
from lookforward.models.families import family_of
from lookforward.models.families.photo_prompts.pipeline import DetailProjections, cross_attentions
from lookforward.models.photo_features import PhotoFeatures, tower_layers
from lookforward.whole import require_whole, whole_folder

_MOST_LAYERS, _LARGEST = 1000, 2**20
WEIGHTS, CONFIG, OFFSETS = "encoder.safetensors", "encoder.json", "offsets"
TOKENS = 16  # of a flow transformer
_REMEDY = "Copy it again, or train one with `lookforward pretrain-encoder`."


@dataclass(frozen=True)
class EncoderSizes:
    """All that rebuilds an encoder, and what it belongs to.

    model, model_hash: whose words it writes. clip: the image encoder, a hub id or "" for the model's own.
    feature: width of CLIP's features. layers: those that are read, counted from 1, the deepest first. hidden: width of
    the mappings. width: d, of a word. spread: standard deviation of the model's own word embeddings. attentions: width
    of each cross-attention. stage: "global" until the local mapping is trained; "tokens" of a flow transformer; "e4t"
    with weight offsets. strength: λ. tokens: n, of a flow transformer, whose width is that of its prompts. format: of
    the folder.
    """

    model: str
    model_hash: str
    feature: int
    layers: list[int]
    hidden: int
    width: int
    spread: float
    attentions: dict[str, int]
    clip: str = ""
    stage: str = "global"
    strength: float = 1.0
    tokens: int = 0
    format: int = 1

    def __post_init__(self) -> None:
        sizes = (self.feature, self.hidden, self.width, *self.attentions.values())
        if not (0 < len(self.layers) <= _MOST_LAYERS and 0 < min(sizes) <= max(*sizes, self.tokens) <= _LARGEST):
            raise ValueError("its sizes are those of no encoder")


def _mapping(inner: int, hidden: int, outer: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(inner), nn.Linear(inner, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(),
        nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(), nn.Linear(hidden, outer),
    )  # fmt: skip


class TokenMapping(nn.Module):
    """Patches of any number of photos to n tokens: n queries that attend to them, and an MLP."""

    def __init__(self, inner: int, hidden: int, outer: int, count: int) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.LayerNorm(inner), nn.Linear(inner, hidden), nn.LayerNorm(hidden))
        self.queries = nn.Parameter(torch.randn(1, count, hidden))
        self.attention = nn.MultiheadAttention(hidden, 4, batch_first=True)
        self.write = _mapping(hidden, hidden, outer)

    def forward(self, patches: Tensor) -> Tensor:
        """(b, n, inner) to (b, count, outer)."""
        seen = self.read(patches)
        queries = self.queries.expand(len(seen), -1, -1)
        return self.write(queries + self.attention(queries, seen, seen, need_weights=False)[0])


class PhotoEncoder(nn.Module):
    """Both mappings, and the keys and values of the details; or the mapping of a flow transformer."""

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.sizes = sizes
        if sizes.tokens:
            patch = len(sizes.layers) * sizes.feature
            self.token_mapping = TokenMapping(patch, sizes.hidden, sizes.width, sizes.tokens)
            return
        layers, feature, hidden, width = len(sizes.layers), sizes.feature, sizes.hidden, sizes.width
        self.global_mapping = nn.ModuleList(_mapping(2 * feature, hidden, width) for _ in range(layers))
        self.local_mapping = _mapping(layers * feature, hidden, width)
        self.projections = DetailProjections(sizes.attentions, width)

    def words(self, features: PhotoFeatures) -> Tensor:
        """v_0 … v_k-1, (b, k, d): the subject's word first, then those of shallower layers."""
        each = [mapping(features.words[:, i]) for i, mapping in enumerate(self.global_mapping)]
        return self.sizes.spread * torch.stack(each, dim=1)

    def details(self, features: PhotoFeatures) -> Tensor:
        """e, (b, n, d): a row for each patch."""
        return self.local_mapping(features.patches.flatten(2))

    def tokens(self, features: PhotoFeatures) -> Tensor:
        """(b, n, d), of a flow transformer."""
        return self.sizes.spread * self.token_mapping(features.patches.flatten(2))

    def parts(self, stage: str) -> dict[str, nn.Module]:
        """What a stage trains."""
        if stage == "tokens":
            return {"token_mapping": self.token_mapping}
        local: dict[str, nn.Module] = {"local_mapping": self.local_mapping, "projections": self.projections}
        return local if stage == "local" else {"global_mapping": self.global_mapping}


def fresh_sizes(pipeline: Any, clip: ClipEncoders, model: str, model_hash: str, source: str = "") -> EncoderSizes:
    """The sizes of a new encoder for a model. source: of the CLIP, "" if it is the model's own."""
    vision: Any = clip.model.config.vision_config
    feature, chosen = vision.hidden_size, tower_layers(clip)
    if is_flow(pipeline):
        width = _denoiser(pipeline).config["joint_attention_dim"]
        with torch.no_grad():
            spread = float(family_of(pipeline).encode_prompts(pipeline, ["a photo"]).tokens[:, :8].std())
        return EncoderSizes(
            model, model_hash, feature, chosen, max(64, min(3 * width, 512)), width, spread, {}, source,
            stage="tokens", tokens=TOKENS,
        )  # fmt: skip
    table = _text_encoder(pipeline).get_input_embeddings().weight
    layers = cross_attentions(_denoiser(pipeline))
    return EncoderSizes(
        model=model,
        model_hash=model_hash,
        feature=feature,
        layers=chosen,
        hidden=max(64, 3 * table.shape[1]),
        width=table.shape[1],
        spread=float(table.std()),
        attentions={name: layer.to_q.out_features for name, layer in layers.items()},
        clip=source,
    )


def _denoiser(pipeline: Any) -> Any:
    return getattr(pipeline, family_of(pipeline).denoiser)


def _text_encoder(pipeline: Any) -> Any:
    """The one whose words an encoder writes."""
    return getattr(pipeline, family_of(pipeline).text_encoders[0])


def is_flow(pipeline: Any) -> bool:
    """Whether a pipeline is shown photos as tokens, and not by words and details."""
    return "cross-attention" not in family_of(pipeline).capabilities


def require_encodable(family: Family) -> None:
    """Raise LookforwardError unless a family's models can be shown photos in ELITE's way."""
    if "photo-prompts" not in family.capabilities:
        message = f"A photo encoder is for models of the class of Stable Diffusion 1, 2 and 3, not for {family.label}."
        raise LookforwardError(message, code="encoder-family")


def save_encoder(
    encoder: PhotoEncoder,
    folder: Path,
    stage: str,
    about: Mapping[str, str] | None = None,
    write_offsets: Callable[[Path], object] | None = None,
) -> None:
    """Write an encoder's folder, whole or not at all, its weights in half precision.

    write_offsets: writes the LoRA that belongs to it into an empty folder.

    Raises:
        LookforwardError: the disk is full or cannot be written.
    """
    with whole_folder(folder) as partial:
        weights = {name: one.half() for name, one in encoder.state_dict().items()}
        write_tensors(partial / WEIGHTS, weights, {"format": "pt", **(about or {})})
        write_json(partial / CONFIG, asdict(replace(encoder.sizes, stage=stage)))
        if write_offsets is not None:
            (partial / OFFSETS).mkdir()
            write_offsets(partial / OFFSETS)


def find_encoder(given: str | Path) -> Path:
    """The folder of an encoder, or that in the folder in which it was trained.

    Raises:
        LookforwardError: there is none.
    """
    for folder in (Path(given), Path(given) / "export"):
        if (folder / CONFIG).is_file():
            return folder
    raise LookforwardError(
        f"{given} is not a photo encoder: it has no {CONFIG}. Train one with `lookforward pretrain-encoder`.",
        code="encoder-missing",
    )


def load_encoder(given: str | Path) -> PhotoEncoder:
    """A trained encoder, frozen, in single precision.

    Raises:
        LookforwardError: there is none, or a file of it is damaged.
    """
    folder = find_encoder(given)
    require_whole(folder, "The photo encoder", _REMEDY, expected=True)
    try:
        sizes = structure(read_json(folder / CONFIG, dict[str, Any]), EncoderSizes, folder / CONFIG)
        if sizes.format != 1:
            raise ValueError(f"format {sizes.format} is that of another version")
        with torch.device("meta"):  # of whatever sizes: the weights in the file must have them
            encoder = PhotoEncoder(sizes)
        weights = {name: one.float() for name, one in load_file(folder / WEIGHTS).items()}
        encoder.load_state_dict(weights, assign=True)
    except (LookforwardError, OSError, SafetensorError, RuntimeError, ValueError, AssertionError) as error:
        reason = first_line(error)
        raise LookforwardError(f"{folder} cannot be read: {reason}. {_REMEDY}", code="encoder-damaged") from error
    return encoder.requires_grad_(False).eval()


def require_fits(encoder: PhotoEncoder, pipeline: Any, given: str | Path) -> None:
    """Raise LookforwardError unless the encoder writes words of the pipeline's width, and knows its layers."""
    if is_flow(pipeline):
        layers, width = {}, _denoiser(pipeline).config["joint_attention_dim"]
    else:
        layers = {name: layer.to_q.out_features for name, layer in cross_attentions(_denoiser(pipeline)).items()}
        width = _text_encoder(pipeline).config.hidden_size
    if encoder.sizes.attentions != layers or encoder.sizes.width != width:
        raise LookforwardError(
            f"{given} was trained for {encoder.sizes.model}, whose layers are others: give that model, or an encoder "
            "of this one.",
            code="encoder-misfit",
        )
