"""Joins policy, faces, history and engine into a conversation about one photo, for window and command line."""
