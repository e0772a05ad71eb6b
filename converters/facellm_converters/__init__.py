"""Checkpoints to GGUF pairs: read a checkpoint, know its layout, merge an adapter, write, prove that they are equal.

One direction: ``checkpoint`` (files to tensors) → ``layouts`` (tensors to roles) → ``write`` (roles to GGUF) →
``equality`` (does the pair answer as the checkpoint does).
"""
