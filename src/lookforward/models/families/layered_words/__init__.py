"""Stable Diffusion with a learned word for each layer: what exports of P+ and NeTI carry with them."""
