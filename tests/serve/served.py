"""``python -m tests.serve.served NAME WORKERS FILE``: what the processes of these tests run.

A module of its own: workers are told of the application by the module that it is in, which must not be ``__main__``.
"""

import sys

from tests.serve.processes import run_in_process

if __name__ == "__main__":
    run_in_process(*sys.argv[1:])
