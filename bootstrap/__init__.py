"""Sets up the environment that everything runs in. Standard library only: on a fresh machine nothing else is there."""
