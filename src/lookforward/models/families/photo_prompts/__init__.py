"""Stable Diffusion that is shown photos beside the prompt; an export carries `pipeline.py`."""
