"""A checkpoint's files: configuration, and tensors read piece by piece."""
