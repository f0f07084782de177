"""What the tests of P+ and NeTI share: runs of the tiny model, and the script that users of plain diffusers run."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn

from lookforward.batches import Embeddings, Examples
from lookforward.generate import draw_images
from lookforward.policies.diffusion import DiffusionPolicy
from lookforward.protocols import Adapter
from lookforward.records import State
from lookforward.train import Trainer
from lookforward.update import Objective
from tiny import cached, paying, seeded

WORD = "<sks>"
PROMPT = f"a photo of {WORD} on the beach"

# As docs/adapters/p-plus.md and neti.md tell users of diffusers to, in an interpreter that has no lookforward
PLAIN = """
import sys

class NoLookforward:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "lookforward":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoLookforward())
sys.path[:] = [folder for folder in sys.path if not folder.rstrip("/").endswith("src")]

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline

base, folder, result, threads, prompt = sys.argv[1:]
torch.set_num_threads(int(threads))
pipeline = DiffusionPipeline.from_pretrained(base, custom_pipeline=f"{folder}/pipeline.py", trust_remote_code=True)
pipeline.load_concept(folder)
pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
drawn = pipeline(
    prompt, num_inference_steps=3, guidance_scale=3.0, generator=torch.Generator().manual_seed(3), output_type="np"
).images
np.save(result, (drawn * 255).round().astype(np.uint8))
assert not any(name.partition(".")[0] == "lookforward" for name in sys.modules)
"""


def draw(pipeline: StableDiffusionPipeline, prompt: str = PROMPT) -> np.ndarray:
    return draw_images(pipeline, [prompt], [3], steps=3, guidance=3.0).astype(int)


def draw_plain(base: Path, folder: Path, scratch: Path) -> np.ndarray:
    """The image of `draw`, by plain diffusers in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(scratch / "modules"), "HF_HUB_OFFLINE": "1"}
    arguments = [base, folder, scratch / "drawn.npy", torch.get_num_threads(), PROMPT]
    done = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN, *map(str, arguments)],
        env=environment, cwd=scratch, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return np.load(scratch / "drawn.npy").astype(int)


def disturb(parameters: dict[str, nn.Parameter], size: float = 0.3) -> None:
    """Learn something at random, enough to be seen."""
    generator = seeded(5)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))


def some_state(policy: DiffusionPolicy, prompts: list[str], *timesteps: int) -> State:
    x_t = torch.randn(len(prompts), 4, 8, 8, generator=seeded(1))
    return State(x_t, torch.tensor(timesteps), policy.embed(prompts))


def seen_by_layers(policy: DiffusionPolicy, state: State) -> list[Tensor]:
    """What each cross-attention layer's keys are made of, (b, l, d), in the order in which an image passes them."""
    seen: list[Tensor] = []
    keys = [m for name, m in policy.unet.named_modules() if name.endswith("attn2.to_k")]
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


def make_trainer(adapter: Adapter, policy: DiffusionPolicy, chance: torch.Generator, seed: int) -> Trainer:
    """chance: that of the adapter."""
    parameters = adapter.attach(policy)
    return Trainer(
        policy=policy,
        parameters=parameters,
        optimizer=torch.optim.AdamW(parameters.values(), lr=0.01),
        environment=paying(),
        critique=None,
        direct=False,
        objective=Objective(critic_weight=0.0, noise_weight=1.0, prior_weight=0.0, discount=1.0),
        references=Examples(cached(1), (f"a photo of {WORD}",) * 3),
        prior=None,
        embeddings=Embeddings(policy, adapter.changes_prompts),
        batch=2,
        max_grad_norm=1.0,
        generator=seeded(seed),
        critic_generator=seeded(seed + 1),
        adapter_generator=chance,
    )


def stable_diffusion_unet() -> UNet2DConditionModel:
    """The UNet of Stable Diffusion 1.4, without weights."""
    with torch.device("meta"):
        return UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, attention_head_dim=8,
            block_out_channels=(320, 640, 1280, 1280), layers_per_block=2,
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        )  # fmt: skip
