import signal
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def ask_to_stop() -> Iterator[Callable[[], None]]:
    """Sends this process the signal to stop, which is handled as by a server. To be taken before a gateway runs."""
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    yield lambda: signal.raise_signal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
