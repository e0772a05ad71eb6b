"""LoRA fine-tuning of InternVL checkpoints on conversations about faces: ``facellm train`` with ``kind: lora``."""
