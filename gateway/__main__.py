"""``python -m gateway``: the command line."""

from gateway.serve.cli import main

if __name__ == "__main__":  # pragma: no branch  run, not imported
    main()
