"""Pixels to faces: decode a photo, find its faces, measure them, and cut the tile that a model receives."""
