"""Faces and questions to tokens: a client, and a child process that alone loads llama.cpp."""
