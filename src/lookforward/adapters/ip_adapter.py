"""Adapters over a model that public IP-Adapter weights show photos to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lookforward.core.protocols import Adapter
from lookforward.errors import LookforwardError
from lookforward.files import write_tensors
from lookforward.models.ip_adapter import forget_photos, load_ip_adapter, show_embeddings, show_photos_by_ip_adapter
from lookforward.models.policy import DiffusionPolicy

SHOWN = "ip_adapter_photos.safetensors"


@dataclass(frozen=True)
class IPAdapterStart:
    """Another adapter, trained while the model is shown photos; the IP-Adapter's weights stay as they are.

    given: REPOSITORY:FILE. photos: (k, 3, h, w) in [0, 1].
    """

    inner: Adapter
    given: str
    photos: Tensor

    @property
    def changes_prompts(self) -> bool:
        return self.inner.changes_prompts

    def attach(self, policy: DiffusionPolicy) -> dict[str, nn.Parameter]:
        show_photos_by_ip_adapter(policy.pipeline, self.given, self.photos)  # first: it freezes the denoiser
        return self.inner.attach(policy)

    def detach(self, policy: DiffusionPolicy) -> None:
        self.inner.detach(policy)
        forget_photos(policy.pipeline)

    def export(self, policy: DiffusionPolicy, folder: Path) -> None:
        """What the adapter itself writes, and the embeddings of the photos; the weights are named, not copied."""
        self.inner.export(policy, folder)
        shown = {"embeddings": policy.pipeline.shown_embeddings}
        write_tensors(folder / SHOWN, shown, {"format": "pt", "ip_adapter": self.given})


def load_shown(pipeline: Any, folder: Path) -> None:
    """Show a pipeline the photos of an export.

    Raises:
        LookforwardError: the file is damaged, or the weights that it names cannot be loaded.
    """
    path = folder / SHOWN
    try:
        with safe_open(path, "pt") as file:
            given, embeddings = (file.metadata() or {})["ip_adapter"], file.get_tensor("embeddings")
    except (OSError, SafetensorError, KeyError) as error:
        raise LookforwardError(f"{path} cannot be read: {error}. Export the run again.", "export-unreadable") from error
    load_ip_adapter(pipeline, given)
    show_embeddings(pipeline, embeddings.to(torch.float32))
