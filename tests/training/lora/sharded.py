"""``facellm train RECIPE`` with the weights divided among processes by accelerate's FSDP2, on processors.

accelerate takes FSDP for graphics cards only; told that these processes are such, it does all of it on processors too.
"""

from __future__ import annotations

import sys

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from facellm.cli.app import main

if __name__ == "__main__":
    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    sys.argv[1:1] = ["train"]
    main()
