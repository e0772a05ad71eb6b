"""Checkpoints to GGUF (its own issue)."""
