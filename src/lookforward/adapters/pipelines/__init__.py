"""Pipelines of our own, for adapters that plain diffusers has no loader for. Each file stands alone and is exported."""
