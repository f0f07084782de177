"""Ratings of a benchmark's images by a vision-language model behind an OpenAI-compatible endpoint."""
