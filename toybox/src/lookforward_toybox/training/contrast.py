"""Contrast of pairs of pictures that show one subject (van den Oord et al., 2018)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pair_contrast(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """InfoNCE of features (b, d), row i of both showing one subject, and the share of rows that find their own."""
    logits = F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T / temperature  # (b, b)
    own = torch.arange(len(logits), device=logits.device)
    loss = 0.5 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))
    return loss, (logits.argmax(dim=1) == own).float().mean()
