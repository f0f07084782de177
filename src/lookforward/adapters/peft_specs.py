"""What LoHa, LoKr and OFT are to their users, as `specs.py` says it of other adapters."""

from dataclasses import replace

from lookforward.adapters.specs import files_for_comfyui, late
from lookforward.core.specs import AdapterSpec

_LOAD_PEFT = [
    "from pathlib import Path",
    "from peft import PeftModel",
    'for part in sorted(Path("FOLDER").glob("*/adapter_config.json")):',
    "    module = getattr(pipeline, part.parent.name)",
    "    setattr(pipeline, part.parent.name, PeftModel.from_pretrained(module, part.parent))",
]
LOHA = AdapterSpec(
    name="loha",
    label="LoHa",
    help="a LoHa: the product of two LoRAs",
    build=late("loha", "build_loha"),
    usage=lambda _: list(_LOAD_PEFT),
    load=late("loha", "bake_loha"),
    merge=late("loha", "bake_loha"),
    formats=files_for_comfyui("lycoris", "write_lycoris"),
    defaults={  # rank, alpha and rate of peft's example for Stable Diffusion
        "adapter": {"train_text_encoder": False, "rank": 8, "alpha": 8.0},
        "optimizer": {"learning_rate": 1e-4},
        "run": {"steps": 500},
        "family": {
            "toybox": {
                "adapter": {"train_text_encoder": True},
                "optimizer": {"learning_rate": 2e-3},
                "run": {"steps": 300},
            }
        },
    },
    settings=("adapter.rank", "adapter.alpha", "adapter.layers"),
)
LOKR = replace(
    LOHA,
    name="lokr",
    label="LoKr",
    help="a LoKr: Kronecker products",
    build=late("lokr", "build_lokr"),
    load=late("lokr", "bake_lokr"),
    merge=late("lokr", "bake_lokr"),
    settings=(*LOHA.settings, "adapter.lokr_factor"),
)
OFT = replace(
    LOHA,
    name="oft",
    label="OFT",
    help="OFT: orthogonal changes",
    build=late("oft", "build_oft"),
    load=late("oft", "bake_oft"),
    merge=late("oft", "bake_oft"),
    formats=(),
    settings=("adapter.layers", "adapter.oft_block_size"),
)
