"""Train the photo encoder of ELITE (Wei et al., 2023) on pictures of many subjects, in two stages.

global: the words v = GlobalMapping(f) of all layers stand in the prompt, and
    L = w(t) ‖o - target‖² + 0.001 mean |v| / spread
local: the deepest word alone stands there, and the details e = LocalMapping(f) in the cross-attentions:
    L = w(t) ‖o - target‖² + 0.0001 mean |W_v e|

e4t, in the place of both: as global, with a LoRA of the denoiser trained beside it (E4T, Gal et al., 2023).
Of a flow transformer there is one stage, tokens: n tokens take the last places of the encoded prompt.

f: the features of another picture of the subject, where there is one. w: min-SNR weights. The model stays as it is.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookforward.adapters.elite import become
from lookforward.adapters.lora import LoraAdapter
from lookforward.assembly.evaluators import encoder_sources
from lookforward.bundle import TOYBOX, bundled_model
from lookforward.errors import LookforwardError
from lookforward.exports.load import model_hash
from lookforward.models.encoders import load_clip
from lookforward.models.families import family_named, family_of
from lookforward.models.families.photo_prompts.flow import without
from lookforward.models.families.photo_prompts.pipeline import PhotoPrompt
from lookforward.models.load_pipeline import build_pipeline
from lookforward.models.photo_encoder import (
    WEIGHTS,
    PhotoEncoder,
    fresh_sizes,
    is_flow,
    load_encoder,
    require_encodable,
    save_encoder,
)
from lookforward.models.photo_features import VisionTower
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.weight_files import local_folder
from lookforward_toybox.training.data import hash_encoder, hash_file
from lookforward_toybox.training.flow_model import ABSENT, CountedAttention
from lookforward_toybox.training.loop import TrainingSchedule, describe, require_same, run_stage
from lookforward_toybox.training.photo_data import open_photos, open_world, world_folder
from lookforward_toybox.training.photo_steps import WORD, BatchWords, EncoderTraining
from lookforward_toybox.training.state import load_averaged
from lookforward_toybox.training.tokenizer import encode_captions

STAGES = ("global", "local")
FLOW_STAGES = ("tokens",)
WITH_OFFSETS = "e4t"  # a stage of its own, in the place of both


def train_encoder(
    data: Path,
    folder: Path,
    stage: str,
    *,
    steps: int = 20_000,
    minutes: float | None = None,
    seed: int = 0,
    batch: int = 48,
    learning_rate: float = 1e-3,
    log_every: int = 20,
    **given: Any,
) -> Iterator[dict[str, Any]]:
    """Train or resume one stage in FOLDER/STAGE, yielding log rows, and export to FOLDER/export.

    data: a drawn world, or a folder of photos. given: further arguments of `build_training`.

    Raises:
        LookforwardError: data or model cannot be used, stage local comes first, or other settings began the training.
    """
    run = build_training(data, folder, stage, seed=seed, batch=batch, **given)
    sizes, before = run.encoder.sizes, folder / "global" / "encoder" / WEIGHTS
    schedule = TrainingSchedule(steps, learning_rate, minutes)
    more = {"encoder": hash_encoder(run.vae), "model": sizes.model_hash, "pictures_used": len(run.data.chosen)}
    more |= {"words": hash_file(before)} if stage == "local" else {}
    about = {"hidden": sizes.hidden, "layers": sizes.layers}
    settings = describe(f"encoder-{stage}", about, run.place, schedule, seed, batch, **more)
    require_same(folder / stage, settings)  # before all pictures are encoded
    device = str(run.policy.device)
    trained = False
    for row in run_stage(
        folder=folder / stage, module=run.module, loss=run.terms, schedule=schedule, seed=seed, settings=settings,
        batch=batch, device=device, log_every=log_every,
    ):  # fmt: skip
        trained = True
        yield row
    if trained or not (folder / stage / "encoder").is_dir():
        _export(run, folder, settings)


def build_training(
    data: Path,
    folder: Path,
    stage: str,
    *,
    model: str = TOYBOX,
    clip: str = "",
    class_noun: str = "",
    without: tuple[str, ...] = (),
    seed: int = 0,
    device: str = "cpu",
    batch: int = 48,
) -> EncoderTraining:
    """The parts of a stage's training.

    clip: hub id or folder; the model's own where empty. class_noun, without: see `open_photos` and `open_world`.

    Raises:
        LookforwardError: as `train_encoder`.
    """
    before = folder / "global" / "encoder"
    if stage == "local" and not before.is_dir():
        message = f"{before} is missing: stage local needs the words of stage global. Train that stage first."
        raise LookforwardError(message, code="encoder-stage")
    require_data(data)
    pipeline = build_pipeline(model, device)
    require_encodable(family_of(pipeline))
    if stage not in (stages := stages_of(model)) and (stage != WITH_OFFSETS or stages != STAGES):
        message = f"--stage {stage}: the encoder of {family_of(pipeline).label} has {' and '.join(stages)}."
        raise LookforwardError(message, code="encoder-stage")
    place = world_folder(data)
    size = family_of(pipeline).native_size(pipeline)
    found = open_world(place, without) if place else open_photos(data, folder / "data", class_noun, size)
    loaded = load_clip(clip or encoder_sources(model)["clip"], device)
    torch.manual_seed(seed)  # initial weights
    encoder = PhotoEncoder(fresh_sizes(pipeline, loaded, model, model_hash(pipeline), clip)).to(device)
    if stage == "local":
        encoder.load_state_dict(load_encoder(before).state_dict())
    encoder.requires_grad_(False)
    for part in encoder.parts(stage).values():
        part.requires_grad_(True)
    bundled = bundled_model(model)
    vae = (bundled.pipeline if bundled else local_folder(model)) / "vae"
    texts: tuple[str, ...] = ()
    if is_flow(pipeline):
        (tokens, texts), first = read_texts(found.captions), 0
    else:
        tokens, first = _read_captions(pipeline, found.captions)
    policy = DiffusionPolicy(pipeline)
    for network in policy.components.values():
        network.requires_grad_(False)
    if stage == "local":
        nothing = {WORD: torch.zeros(0, encoder.sizes.width)}
        become(pipeline).set_photo_prompt(PhotoPrompt(nothing, encoder.projections))
    if stage == "tokens" and getattr(pipeline, "text_encoder_3", None) is None:
        attention = CountedAttention()
        attention.count = float(ABSENT - encoder.sizes.tokens)
        network = pipeline.transformer
        own = {name: attention if ".attn." in name else one for name, one in network.attn_processors.items()}
        network.set_attn_processor(own)  # attn2, where there is one, reads no prompt
    offsets, changes = None, dict[str, nn.Parameter]()
    if stage == WITH_OFFSETS:
        offsets = LoraAdapter(4, 4.0, False, False, torch.Generator().manual_seed(seed))
        changes = offsets.attach(policy)
    tower = VisionTower(loaded, encoder.sizes.layers)
    cache = folder / "latents"
    return EncoderTraining(
        encoder, policy, tower, found, tokens, first, stage, batch, vae, place or folder / "data", cache, texts,
        offsets, tuple(changes[name] for name in sorted(changes)),
    )  # fmt: skip


def require_data(data: Path) -> None:
    """Raise LookforwardError unless there is a folder of that name."""
    if not data.is_dir():
        raise LookforwardError(
            f"{data} is not a folder: give one of photos, one of folders of photos, or a world that `lookforward "
            "toybox draw` has drawn.",
            code="encoder-data",
        )


def stages_of(model: str) -> tuple[str, ...]:
    """The stages of a model's encoder, in their order."""
    return STAGES if "cross-attention" in family_named(model).capabilities else FLOW_STAGES


def read_texts(captions: list[list[str]]) -> tuple[Tensor, tuple[str, ...]]:
    """Distinct captions without the subject's place, and for each picture the numbers of its own, (n, v, 1)."""
    texts: dict[str, int] = {}
    most = min(map(len, captions))
    rows = [[[texts.setdefault(without(one, "{}"), len(texts))] for one in some[:most]] for some in captions]
    return torch.tensor(rows), tuple(texts)


def _export(run: EncoderTraining, folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the averaged weights of a stage to FOLDER/STAGE/encoder, and the newest of both to FOLDER/export."""
    stage, offsets = run.stage, run.offsets
    load_averaged(folder / stage, run.module)
    write = None if offsets is None else partial(offsets.export, run.policy)
    about = {"lookforward": f"stage {stage}, seed {settings['seed']}, batches of {settings['batch']}"}
    for target in (folder / stage / "encoder", folder / "export"):
        save_encoder(run.encoder, target, stage, about, write)


def _read_captions(pipeline: Any, captions: list[list[str]]) -> tuple[Tensor, int]:
    """Captions as tokens (n, v, l), and the first token that is a word; the text encoder reads such ones from now."""
    first = len(pipeline.tokenizer)
    pipeline.tokenizer.add_tokens([WORD])
    encoder = pipeline.text_encoder
    encoder.set_input_embeddings(BatchWords(encoder.get_input_embeddings(), first))
    written = [[caption.replace("{}", f" {WORD} ") for caption in some] for some in captions]
    tokens = encode_captions(pipeline.tokenizer, written)
    if int((tokens == first).sum(dim=-1).min()) != 1:
        raise LookforwardError(
            "A caption names the subject behind what the model reads, or more than once: shorten it, with one {}.",
            code="encoder-data",
        )
    return tokens, first
