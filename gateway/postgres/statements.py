"""SQL in files beside the modules that use it, with the names that the settings give to tables and functions.

In a file a name begins with ``gateway_``. The first line tells its version; a server that has an older one is given the
file again, so that everything in it may be run again. Nodes of two releases share a server: a file only adds.
"""

import re
from hashlib import sha1
from pathlib import Path

_NAME = re.compile(r"\bgateway_(\w+)")


class Script:
    """Tables and functions of one family."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.text = path.read_text()
        head = self.text.partition("\n")[0]
        self.version = int(head.removeprefix("-- version:"))


class Names:
    """What is called how in one schema of a database."""

    def __init__(self, schema: str, prefix: str) -> None:
        self._schema = schema.replace('"', '""')
        self._prefix = prefix
        # Notifications go through all schemas of a database, and their names are short.
        self.news = f"{prefix}_{sha1(schema.encode(), usedforsecurity=False).hexdigest()[:12]}"

    def put(self, text: str) -> str:
        """The statement with these names."""
        return _NAME.sub(self._put, text)

    def _put(self, found: "re.Match[str]") -> str:
        word = found[1]
        if word == "news":
            return self.news
        name = f"{self._prefix}_{word}"
        return name if word.endswith("_index") else f'"{self._schema}".{name}'
