"""Labelled faces and the questions made from them."""
