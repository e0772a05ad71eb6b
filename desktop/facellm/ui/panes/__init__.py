"""The parts of the window: each shows one presenter's state and emits what the user wants."""
