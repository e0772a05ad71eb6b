"""How a checkpoint cuts text into tokens, read from its JSON files and written as llama.cpp needs it."""
