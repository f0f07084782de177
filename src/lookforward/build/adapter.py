"""The adapter that a config names."""

import torch

from lookforward.adapters.full import FullAdapter
from lookforward.config import Config
from lookforward.errors import LookforwardError
from lookforward.protocols import Adapter


def build_adapter(config: Config, generator: torch.Generator) -> Adapter:
    """generator: where an adapter that trains by chance draws it from; saved with a checkpoint."""
    match config.adapter:
        case "full":
            return FullAdapter(config.train_text_encoder)
        case _:
            raise LookforwardError(f"adapter = {config.adapter!r} is not there yet.")
