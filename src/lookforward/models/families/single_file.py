"""A whole model as one file in the layout of its original code, which ComfyUI and A1111 read.

Stable Diffusion 1 and 2 have CompVis' names: `model.diffusion_model.` for the UNet, `first_stage_model.` for the
autoencoder, `cond_stage_model.` for the text encoder. Stable Diffusion XL has those of SGM: `conditioner.embedders.0.`
and `1.` for its two encoders. A text encoder is CLIP's own (`transformer.text_model.`), or OpenCLIP's (`model.`), whose
activation is another: readers take it from the layout, so the encoder's activation decides here which one it gets.

The file says nothing of tokenizer, noise levels and the scale of latents: readers assume those of the published models.
`assumptions` names where a model has others.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lookforward.core.prediction import Prediction
from lookforward.errors import LookforwardError
from lookforward.files import write_tensors
from lookforward.models.families import family_of

LOADING = """\
ComfyUI: put `{name}.safetensors` into `models/checkpoints` and load it with the node CheckpointLoaderSimple. A1111: put
it into `models/Stable-diffusion`. diffusers: `{pipeline}.from_single_file("{name}.safetensors")`."""

_UNET = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.0": "middle_block.0", "mid_block.resnets.1": "middle_block.2",
}  # fmt: skip
_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
_IN_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_VAE = {
    "mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2", "mid_block.attentions.0": "mid.attn_1",
    "conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut", "downsamplers.0": "downsample",
    "upsamplers.0": "upsample", "resnets": "block",
}  # fmt: skip
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final", "encoder.layers": "transformer.resblocks", "layer_norm1": "ln_1",
    "layer_norm2": "ln_2", "fc1": "c_fc", "fc2": "c_proj", "self_attn": "attn",
}  # fmt: skip
_SCALES = {"sd": 0.18215, "sdxl": 0.13025}  # of latents, which readers assume
_VOCABULARY = 49408  # CLIP's tokens
_NOISE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def require_layout(family: Any) -> None:
    """Raise LookforwardError where a family has no original layout here."""
    if family.name not in _SCALES:
        raise LookforwardError(
            f"{family.label} has no checkpoint of one file here, which is for Stable Diffusion 1, 2 and XL: take "
            "--format merged, and load the folder with diffusers; or --format comfyui for a LoRA.",
            code="format-family",
        )


def write_checkpoint(pipeline: Any, path: Path, trigger: str = "") -> None:
    """Write a pipeline's weights to one safetensors file, in their own number format.

    Rows of learned words are left out, since readers take embeddings as files of their own. trigger: what prompts call
    the subject.

    Raises:
        LookforwardError: the model has weights that the layout has no place for, or the disk is full.
    """
    family = family_of(pipeline)
    require_layout(family)
    tensors = {f"model.diffusion_model.{name}": tensor for name, tensor in _unet(pipeline.unet)}
    tensors |= {f"first_stage_model.{name}": tensor for name, tensor in _vae(pipeline.vae)}
    for i, name in enumerate(family.text_encoders):
        encoder, learned = getattr(pipeline, name), _learned(getattr(pipeline, family.tokenizers[i]))
        prefix = "cond_stage_model." if family.name == "sd" else f"conditioner.embedders.{i}."
        tensors |= {prefix + name: tensor for name, tensor in _text_encoder(encoder, min(learned, default=None), i)}
    v = family.prediction(pipeline) is Prediction.V
    if v and family.name == "sdxl":
        tensors["v_pred"] = torch.zeros(0)  # by which ComfyUI and A1111 know it
        if pipeline.scheduler.config.get("rescale_betas_zero_snr"):
            tensors["ztsnr"] = torch.zeros(0)
    metadata = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-xl-v1-base" if family.name == "sdxl" else _version(pipeline),
        "modelspec.title": path.stem,
        "modelspec.prediction_type": "v" if v else "epsilon",
    }
    write_tensors(path, tensors, metadata | ({"modelspec.trigger_phrase": trigger} if trigger else {}))


def holds_words(pipeline: Any) -> bool:
    """Whether words were added to the vocabulary of a text encoder."""
    return any(_learned(getattr(pipeline, name)) for name in family_of(pipeline).tokenizers)


def _learned(tokenizer: Any) -> list[int]:
    """The tokens of words that were added to a tokenizer."""
    return [token for token, added in tokenizer.added_tokens_decoder.items() if not added.special]


def assumptions(pipeline: Any) -> tuple[str, ...]:
    """Notes where a model is not what readers of the file take it for, so that they would draw something else."""
    family, notes = family_of(pipeline), list[str]()
    sizes = {getattr(pipeline, name).vocab_size for name in family.tokenizers}
    if sizes != {_VOCABULARY}:
        notes.append(
            f"the file holds no tokenizer, and other programs take CLIP's of {_VOCABULARY} tokens; this model's has "
            f"{', '.join(map(str, sorted(sizes)))}, so that they would read other words"
        )
    if (scale := pipeline.vae.config["scaling_factor"]) != _SCALES[family.name]:
        notes.append(
            f"other programs scale latents by {_SCALES[family.name]}, this model by {scale:g}, so that they would draw "
            "something else"
        )
    schedule = {name: pipeline.scheduler.config.get(name) for name in _NOISE}
    if schedule != _NOISE or pipeline.scheduler.config.get("trained_betas") is not None:
        differing = ", ".join(f"{name} {value}" for name, value in schedule.items() if value != _NOISE[name])
        notes.append(f"other programs take Stable Diffusion's noise levels, and this model has others ({differing})")
    if family.name == "sd" and family.prediction(pipeline) is Prediction.V:
        notes.append(
            "the model predicts v, which the file cannot say: ComfyUI finds it out for Stable Diffusion 2, otherwise "
            "add its node ModelSamplingDiscrete; A1111 needs `parameterization: v` in a .yaml file beside it"
        )
    return tuple(notes)


def _unet(unet: Any) -> Iterator[tuple[str, Tensor]]:
    weights, layers = unet.state_dict(), unet.config["layers_per_block"]
    if not isinstance(layers, int):
        raise _no_place("layers_per_block", f"{layers}")
    for name, tensor in weights.items():
        yield _of_unet(name, layers, weights), tensor


def _of_unet(name: str, layers: int, weights: Mapping[str, Tensor]) -> str:
    for start, original in _UNET.items():
        if name.startswith(f"{start}."):
            rest = name.removeprefix(f"{start}.")
            return f"{original}.{_renamed(rest, _RESNET) if 'resnets' in start else rest}"
    found = _IN_BLOCK.fullmatch(name)
    if found is None:
        raise _no_place("weights", name)
    side, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    blocks = "input_blocks" if side == "down" else "output_blocks"
    first = block * (layers + 1) + (side == "down")  # the first of the input is conv_in
    match kind:
        case "downsamplers":
            return f"{blocks}.{first + layers}.0.op.{rest.removeprefix('conv.')}"
        case "upsamplers":  # behind the block's last resnet, and its attention where there is one
            attends = any(one.startswith(f"up_blocks.{block}.attentions.") for one in weights)
            return f"{blocks}.{first + layers}.{2 if attends else 1}.{rest}"
        case "attentions":
            return f"{blocks}.{first + layer}.1.{rest}"
        case _:
            return f"{blocks}.{first + layer}.0.{_renamed(rest, _RESNET)}"


def _vae(vae: Any) -> Iterator[tuple[str, Tensor]]:
    count = len(vae.config["up_block_types"])
    for name, tensor in vae.state_dict().items():
        original = re.sub(r"down_blocks\.", "down.", name)
        original = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{count - 1 - int(found[1])}", original)
        original = _renamed(original, _VAE)
        if "mid.attn_1" in original:
            original = _renamed(original, _VAE_ATTENTION)
            tensor = tensor[..., None, None] if tensor.ndim == 2 else tensor  # linear here, a convolution there
        yield original, tensor


def _text_encoder(encoder: Any, vocabulary: int | None, index: int) -> Iterator[tuple[str, Tensor]]:
    """vocabulary: tokens without learned words; None for all. index: of the encoder; XL's first is CLIP's."""
    weights = {name.removeprefix("text_model."): tensor for name, tensor in encoder.state_dict().items()}
    weights = {name: tensor for name, tensor in weights.items() if not name.endswith("position_ids")}
    words = "embeddings.token_embedding.weight"
    weights[words] = weights[words][:vocabulary]
    if index == 0 and encoder.config.hidden_act == "quick_gelu":
        yield from ((f"transformer.text_model.{name}", tensor) for name, tensor in weights.items())
        return
    for name, tensor in weights.items():
        if name == "text_projection.weight":
            yield "model.text_projection", tensor.T
        elif ".q_proj." in name:
            joined = torch.cat([weights[name.replace(".q_proj.", f".{one}_proj.")] for one in "qkv"])
            yield f"model.{_renamed(name, _OPEN_CLIP).replace('.q_proj.', '.in_proj_')}", joined
        elif ".k_proj." not in name and ".v_proj." not in name:
            yield f"model.{_renamed(name, _OPEN_CLIP)}", tensor


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """A weight's name with some of its parts, which dots surround, replaced."""
    dotted = f".{name}."
    for old, new in names.items():
        dotted = dotted.replace(f".{old}.", f".{new}.")
    return dotted[1:-1]


def _version(pipeline: Any) -> str:
    return "stable-diffusion-v2" if pipeline.text_encoder.config.hidden_act == "gelu" else "stable-diffusion-v1"


def _no_place(what: str, name: str) -> LookforwardError:
    return LookforwardError(
        f"The layout of one file has no place for this model's {what} ({name}): take --format merged, which diffusers "
        "loads.",
        code="format-model",
    )
