"""PEFT's LoRA adapters: read whole, merged in while a checkpoint streams past, or kept apart as a GGUF of their own."""
