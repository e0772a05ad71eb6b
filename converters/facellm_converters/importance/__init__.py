"""Which inputs of a weight matter: an importance matrix, computed from questions and answers about faces."""
