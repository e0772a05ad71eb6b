"""Trains FaceLLM models: data, the embedded nano, evaluation. Never imported by the desktop."""
