"""What the tests of P+ and NeTI share: runs of the tiny model."""

from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn

from lookforward.algorithm.trainer import Trainer
from lookforward.core.protocols import Adapter
from lookforward.core.types import State
from lookforward.models.policy import DiffusionPolicy
from lookforward.models.sampling import draw_images
from tiny import pipeline_trainer, seeded

WORD = "<sks>"
PROMPT = f"a photo of {WORD} on the beach"


def draw(pipeline: Any, prompt: str = PROMPT) -> np.ndarray:
    return draw_images(pipeline, [prompt], [3], steps=3, guidance=3.0).astype(int)


def disturb(parameters: dict[str, nn.Parameter], size: float = 0.3) -> None:
    """Learn something at random, enough to be seen."""
    generator = seeded(5)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))


def some_state(policy: DiffusionPolicy, prompts: list[str], *timesteps: int) -> State:
    x_t = torch.randn(len(prompts), 4, 8, 8, generator=seeded(1))
    return State(x_t, torch.tensor(timesteps), policy.encode_prompts(prompts))


def seen_by_layers(policy: DiffusionPolicy, state: State) -> list[Tensor]:
    """What each cross-attention layer's keys are made of, (b, l, d), in the order in which an image passes them."""
    seen: list[Tensor] = []
    keys = [m for name, m in policy.denoiser.named_modules() if name.endswith("attn2.to_k")]
    hooks = [m.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach())) for m in keys]
    with torch.no_grad():
        policy.act(state)
    for hook in hooks:
        hook.remove()
    return seen


def everything(pipeline: StableDiffusionPipeline) -> dict[str, Any]:
    """All that an adapter might have changed, by name."""
    hooks = {
        name: len(module._forward_pre_hooks) + len(module._forward_hooks)
        for part in (pipeline.unet, pipeline.text_encoder)
        for name, module in part.named_modules()
    }
    processors = {name: id(processor) for name, processor in pipeline.unet.attn_processors.items()}
    ids = {name: id(part) for name, part in pipeline.components.items()}
    grads = {id(p) for p in (*pipeline.unet.parameters(), *pipeline.text_encoder.parameters()) if p.requires_grad}
    return {
        "class": type(pipeline), "hooks": hooks, "processors": processors, "parts": ids, "trained": grads,
        "tokens": len(pipeline.tokenizer), "attributes": set(vars(pipeline)),
    }  # fmt: skip


def weights(pipeline: StableDiffusionPipeline) -> dict[str, Tensor]:
    parts = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder, "vae": pipeline.vae}
    return {f"{part}.{n}": t.clone() for part, module in parts.items() for n, t in module.state_dict().items()}


def make_trainer(adapter: Adapter, policy: DiffusionPolicy, generator: torch.Generator, seed: int) -> Trainer:
    """generator: the adapter's."""
    trainer = pipeline_trainer(policy, adapter, f"a photo of {WORD}", seed=seed)
    trainer.adapter_generator = generator
    return trainer


def stable_diffusion_unet() -> UNet2DConditionModel:
    """The UNet of Stable Diffusion 1.4, without weights."""
    with torch.device("meta"):
        return UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, attention_head_dim=8,
            block_out_channels=(320, 640, 1280, 1280), layers_per_block=2,
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        )  # fmt: skip
