"""From roles to GGUF: which tensors and fields a file has, and their bytes."""
