"""The command line: one file a command; answers on stdout, progress and errors on stderr, exit code 0, 1 or 2."""
