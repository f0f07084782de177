"""What can be trained: the specs in `specs.py`, `peft_specs.py` and `photo_specs.py`, the code in a file each."""

from lookforward.adapters.peft_specs import LOHA, LOKR, OFT
from lookforward.adapters.photo_specs import E4T, ELITE
from lookforward.adapters.specs import (
    CUSTOM_DIFFUSION,
    DORA,
    FULL,
    LORA,
    NETI,
    P_PLUS,
    PIVOTAL,
    T_LORA,
    TEXTUAL_INVERSION,
)
from lookforward.core.specs import AdapterSpec, installed

ADAPTERS: tuple[AdapterSpec, ...] = (
    FULL, LORA, DORA, T_LORA, LOHA, LOKR, OFT, CUSTOM_DIFFUSION, TEXTUAL_INVERSION, PIVOTAL, P_PLUS, NETI, ELITE, E4T,
    *installed("lookforward.adapters"),
)  # fmt: skip
