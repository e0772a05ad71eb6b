"""FaceLLM: ask questions about faces, answered by a vision-language model on this computer."""

__version__ = "0.1.0"
