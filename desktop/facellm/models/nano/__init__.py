"""Builds the embedded model FaceLLM-nano from its two carriers and this project's trained deltas."""
