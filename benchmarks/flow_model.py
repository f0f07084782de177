"""An SD3 pipeline as diffusers' train_dreambooth_sd3.py wants it, made from a folder that lacks parts of it.

    python benchmarks/flow_model.py PIPELINE FOLDER

The script loads T5, and pads CLIP's tokens to 77, whatever the folder says. Where there is no T5, a stand-in is
written: one layer of one head, which encodes each prompt once before the training. Encoders of fewer positions get 77;
the new ones repeat the last. Both sides train on the folder that is written, so both transformers see as many tokens.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

CLIP_TOKENS = 77  # written into the script
T5_TOKENS = 256  # of pipelines, and of lookforward; the script's own default is 77


def pipeline_class(folder: Path) -> str:
    return json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"]


def has_t5(folder: Path) -> bool:
    return json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["text_encoder_3"][0] is not None


def native_size(folder: Path) -> int:
    """Pixels, as the transformer's and the autoencoder's configuration say."""
    read = {part: json.loads((folder / part / "config.json").read_text()) for part in ("transformer", "vae")}
    return read["transformer"]["sample_size"] * 2 ** (len(read["vae"]["block_out_channels"]) - 1)


def prepare(source: Path, folder: Path) -> Path:
    """Write the pipeline of `source` to `folder` with what the script asks for. Returns the folder."""
    from diffusers import StableDiffusion3Pipeline

    missing = {} if has_t5(source) else {"text_encoder_3": None, "tokenizer_3": None}
    pipeline: Any = StableDiffusion3Pipeline.from_pretrained(source, **missing)
    if missing:
        encoder, tokenizer = _stand_in(pipeline.transformer.config["joint_attention_dim"])
        pipeline.register_modules(text_encoder_3=encoder, tokenizer_3=tokenizer)
    for encoder, tokenizer in (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")):
        _widen(getattr(pipeline, encoder))
        getattr(pipeline, tokenizer).model_max_length = CLIP_TOKENS
    pipeline.save_pretrained(folder)
    return folder


def _stand_in(width: int) -> tuple[Any, Any]:
    """The smallest T5, of `width` numbers a token, and a tokenizer of letters."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(chr(letter), -3.0) for letter in range(97, 123)]
    config = T5Config(vocab_size=len(pieces), d_model=width, d_kv=8, d_ff=8, num_layers=1, num_heads=1)
    return T5EncoderModel(config), T5Tokenizer(vocab=pieces, extra_ids=0)  # pyright: ignore[reportArgumentType]


def _widen(encoder: Any) -> None:
    """Give a CLIP text encoder CLIP_TOKENS positions, if it has fewer."""
    embeddings = next(module for module in encoder.modules() if hasattr(module, "position_embedding"))
    known = embeddings.position_embedding.weight.detach()
    if len(known) >= CLIP_TOKENS:
        return
    table = torch.cat([known, known[-1:].expand(CLIP_TOKENS - len(known), -1)])
    embeddings.position_embedding = nn.Embedding.from_pretrained(table, freeze=False)
    embeddings.register_buffer("position_ids", torch.arange(CLIP_TOKENS)[None], persistent=False)
    encoder.config.max_position_embeddings = CLIP_TOKENS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", type=Path, help="pipeline folder of the class StableDiffusion3Pipeline")
    parser.add_argument("folder", type=Path, help="that is written")
    asked = parser.parse_args()
    print(prepare(asked.source, asked.folder))


if __name__ == "__main__":
    main()
