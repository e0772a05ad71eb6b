"""Sets up the environment that everything runs in. Standard library only: on a fresh machine nothing else is there."""

import sys

# Said here, before anything newer than this file's syntax is read.
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(
        "facellm: FaceLLM needs Python 3.11, 3.12 or 3.13; this is {}.{}.\n"
        "Install one of them and start with it, for example: python3.12 run.py".format(*sys.version_info[:2])
    )
