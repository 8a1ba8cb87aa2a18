"""The page of a contract: HTML and its style in one file, without script, for people."""

import base64
import hashlib
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

from gateway.contracts.contract import ChannelContract, Contract, Data, ProcedureContract
from gateway.contracts.names import Names
from gateway.contracts.schemas import Schema
from gateway.contracts.typescript_types import Types
from gateway.errors import ErrorCode

_STYLE = Path(__file__).with_name("page.css").read_text("utf-8")

_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The Content-Security-Policy to send the page with: this style and nothing else."""


def page(contract: Contract) -> str:
    """The page; the document stands beside it, as ``asyncapi.json``."""
    view = _View(contract)
    title = escape(contract.title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{title}</h1>\n<p class="soft">{escape(contract.version)} · '
        '<a href="asyncapi.json">AsyncAPI document</a></p>\n'
        + view.connection()
        + _part("Channels", map(view.channel, contract.channels))
        + _part("Procedures", map(view.procedure, contract.procedures))
        + _part("Types", view.types())
        + _part("Errors", [_errors()])
        + "</body>\n</html>\n"
    )


class _View:
    """Renders parts of a contract, the types linked to where they are declared."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._types = Types(contract.schemas, Names())
        self._declarations = self._types.declarations()
        names = "|".join(map(re.escape, self._declarations))
        self._name = re.compile(rf"\b({names})\b" if names else r"(?!)")

    def connection(self) -> str:
        contract = self._contract
        address = f"{'wss' if contract.secure else 'ws'}://{contract.host}{contract.path}"
        rows = [_row("Address", f"<code>{escape(address)}</code>")]
        if contract.security:
            rows.append(_row("Token", "in the connect command, unless the application goes by cookies or headers"))
        rows.append(self._data("Connect with", contract.connects_with))
        return f'<section class="card">\n<dl>\n{"".join(rows)}</dl>\n</section>\n'

    def channel(self, channel: ChannelContract) -> str:
        told = channel.descriptions
        rows = [
            *(_row(escape(name), f"<code>{escape(kind)}</code>") for name, kind in channel.parameters.items()),
            self._data("Subscribe with", channel.joins_with, told.get("on_subscribe", "")),
            self._row("You receive", channel.receives, told.get("live", ""), "in"),
        ]
        if channel.sends is not None:
            rows.append(self._row("You publish", channel.sends, told.get("on_publish", ""), "out"))
        allowed = {"presence": channel.reads_presence, "history": channel.reads_history}
        if any(allowed.values()):
            rows.append(_row("You read", ", ".join(name for name, allows in allowed.items() if allows)))
        about = "" if channel.joins_with else _says(told.get("on_subscribe", ""))
        return _card(channel.pattern, about, rows)

    def procedure(self, procedure: ProcedureContract) -> str:
        rows = [self._data("You send", procedure.takes)]
        if procedure.returns is not None:
            rows.append(self._row("You receive", procedure.returns, "", "in"))
        return _card(procedure.method, _says(procedure.description), rows)

    def types(self) -> Iterable[str]:
        for name, text in self._declarations.items():
            yield f'<pre id="{escape(name)}">{self._linked(text.replace("export ", "", 1))}</pre>\n'

    def _data(self, label: str, data: Data | None, about: str = "") -> str:
        if data is None:
            return ""
        return self._row(label if data.required else f"{label} (optional)", data.schema, about, "out")

    def _row(self, label: str, schema: Schema, about: str, direction: str) -> str:
        kind = self._linked(self._types.expression(schema))
        return _row(label, f"<code>{kind}</code>{_says(about)}", direction)

    def _linked(self, text: str) -> str:
        return self._name.sub(r'<a href="#\1">\1</a>', escape(text))


def _part(title: str, cards: Iterable[str]) -> str:
    text = "".join(cards)
    return f"<h2>{title}</h2>\n{text}" if text else ""


def _card(title: str, about: str, rows: Iterable[str]) -> str:
    text = "".join(rows)
    listed = f"<dl>\n{text}</dl>\n" if text else ""
    return f'<section class="card">\n<h3>{escape(title)}</h3>\n{about}{listed}</section>\n'


def _row(label: str, content: str, direction: str = "") -> str:
    kind = f' class="{direction}"' if direction else ""
    return f"<dt{kind}>{label}</dt><dd>{content}</dd>\n"


def _says(text: str) -> str:
    return f'<p class="says">{escape(text)}</p>\n' if text else ""


def _errors() -> str:
    rows = "".join(f"<tr><td>{int(each)}</td><td>{escape(each.message)}</td></tr>\n" for each in ErrorCode)
    return f"<table>\n<tr><th>Code</th><th>Message</th></tr>\n{rows}</table>\n"
