"""Measures a finished model through the product's own engine."""
