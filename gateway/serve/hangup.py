"""SIGHUP: an operator wants the settings read anew, or the terminal has gone."""

import asyncio
import os
import signal
from collections.abc import Callable


def on_hangup(asked: Callable[[], None], gone: Callable[[], None]) -> None:
    """Call one of the two at each SIGHUP, from the running event loop.

    A terminal that closes sends the same signal as `kill -HUP`, and who closes it expects the program to end.
    """
    terminals = [number for number in range(3) if os.isatty(number)]

    def handle() -> None:
        if terminals and not any(os.isatty(number) for number in terminals):  # a terminal hung up is none any more
            gone()
        else:
            asked()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, handle)
