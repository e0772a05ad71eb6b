"""The window: shows what presenters hold and passes on what the user wants; never blocks, never talks to llama.cpp."""
