"""The program started again as one of its own child processes: from its sources, or frozen."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

#: First argument with which a frozen application is started again; the second one is a name of ``CHILDREN``.
CHILD_FLAG = "--facellm-child"
#: All that is started so: modules with a ``main()`` that finds its arguments in ``sys.argv[1:]``. Whoever freezes the
#: application has to put them in by name, because nothing imports them.
CHILDREN = (
    "facellm.cli.importing",
    "facellm.engine.llama_devices",
    "facellm.engine.worker",
    "facellm.ui.build",
    "facellm_converters.write.llama_quantise",
)

#: ``__import__`` is what an import statement calls: the engine's start costs no more than one.
_START = (
    "import os, sys; name, roots = sys.argv[1:3]; sys.argv = [name, *sys.argv[3:]]; "
    "sys.path[:0] = [root for root in roots.split(os.pathsep) if root not in sys.path]; "
    "__import__(name); sys.modules[name].main()"
)
_ROOT = str(Path(__file__).resolve().parents[2])


def child_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs ``main()`` of a module of ``CHILDREN`` in a process of its own.

    This application again when frozen, else this interpreter; the module comes from the same folders as here.
    """
    if getattr(sys, "frozen", False):
        return [sys.executable, CHILD_FLAG, module, *arguments]
    return [sys.executable, "-P", "-c", _START, module, os.pathsep.join(_roots()), *arguments]


def run_if_child(arguments: list[str]) -> None:
    """For a frozen application's first line: when it was started as a child, be that and do not return."""
    if arguments[1:2] != [CHILD_FLAG]:
        return
    module = next(iter(arguments[2:]), "")
    if module not in CHILDREN:
        sys.exit(f"{module or 'Nothing'} is not started as a process of its own.")
    sys.argv = [module, *arguments[3:]]
    import_module(module).main()
    sys.exit()


def end_with_parent() -> None:
    """In a child: from now on, when standard input is closed, the main thread gets a ``KeyboardInterrupt``.

    So that half-written files are deleted on the way out.
    """
    import signal
    import threading
    from _thread import interrupt_main

    main = threading.main_thread().ident or 0

    def wait() -> None:
        sys.stdin.read()
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main, signal.SIGINT)  # also ends a wait for a lock, a queue or another process
        else:
            interrupt_main()

    signal.signal(signal.SIGINT, signal.default_int_handler)  # may have been inherited as ignored
    threading.Thread(target=wait, daemon=True).start()


def _roots() -> list[str]:
    """Where this program's packages lie; the converters have a folder of their own in a checkout."""
    others = [entry for entry in sys.path if os.path.isdir(os.path.join(entry, "facellm_converters"))]  # noqa: PTH112, PTH118
    return list(dict.fromkeys([_ROOT, *map(os.path.abspath, others)]))
