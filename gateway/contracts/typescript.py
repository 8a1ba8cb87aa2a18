"""A typed client in TypeScript: types, and thin functions over the official JavaScript SDK."""

import json
import re

from gateway.contracts.contract import ChannelContract, Contract, ProcedureContract
from gateway.contracts.names import Names, pascal
from gateway.contracts.typescript_types import Types, comment

_HEAD = """\
// Made by `gateway client --typescript`. When the program changes, make it anew.
import type * as SDK from "centrifuge";
"""

_SUBSCRIPTION = """\
/** A publication whose data have a type. */
export type TypedPublication<T> = Omit<SDK.PublicationContext, "data"> & { data: T };

/** What a subscription emits. */
export type TypedEvents<T> = Omit<SDK.SubscriptionEvents, "publication"> & {
  publication: (ctx: TypedPublication<T>) => void;
};

/** The SDK's subscription; what a channel does not allow is not there. */
export type TypedSubscription<T> = Omit<
  SDK.Subscription,
  keyof SDK.TypedEventEmitter<SDK.SubscriptionEvents> | "publish" | "presence" | "presenceStats" | "history" | "setData"
> &
  SDK.TypedEventEmitter<TypedEvents<T>>;

/** Of a channel that takes publications of clients. */
export interface TypedPublish<T> {
  publish(data: T): Promise<SDK.PublishResult>;
}

/** Of a channel that tells who is subscribed. */
export type TypedPresence = Pick<SDK.Subscription, "presence" | "presenceStats">;

/** Of a channel whose past can be read. */
export interface TypedHistory<T> {
  history(options: SDK.HistoryOptions): Promise<TypedHistoryResult<T>>;
}

/** A page of a channel's past. */
export type TypedHistoryResult<T> = Omit<SDK.HistoryResult, "publications"> & { publications: TypedPublication<T>[] };

/** Options of a subscription that sends data along. */
export type TypedOptions<T> = Omit<SDK.SubscriptionOptions, "data" | "getData"> & (
  | { data: T; getData?: null }
  | { data?: T; getData: (ctx: SDK.SubscriptionDataContext) => Promise<T> }
);

/** The subscription to a channel: the client's, if there is one already. */
function subscription(client: SDK.Centrifuge, channel: string, options?: SDK.SubscriptionOptions): SDK.Subscription {
  return client.getSubscription(channel) ?? client.newSubscription(channel, options);
}
"""

_PART = """\
/** A part of a channel's name. Throws for what would make it another channel's. */
function part(value: string | number): string {
  const text = String(value);
  if (!/^[^:/]+$/.test(text)) throw new Error(`${JSON.stringify(text)} cannot stand in the name of a channel`);
  return text;
}
"""

_CONNECTION = """\
/** Options of a client: `new Centrifuge(url, options)`. */
export type ClientOptions = Omit<Partial<SDK.Options>, "data" | "getData"> & (
  | {{ data{mark}: {kind}; getData?: null }}
  | {{ data?: {kind}; getData: () => Promise<{kind}> }}
);
"""

_NUMBERS = ("int", "float")

TYPES = (
    *("SDK", "ClientOptions", "TypedEvents", "TypedHistory", "TypedHistoryResult", "TypedOptions", "TypedPresence"),
    *("TypedPublication", "TypedPublish", "TypedSubscription", "Omit", "Partial", "Pick", "Promise", "Error", "JSON"),
)
"""Names that no model may have: they are the file's own, or JavaScript's."""


def typescript(contract: Contract) -> str:
    """The file. It needs nothing but the types of npm ``centrifuge``."""
    # functions begin with a small letter and types with a capital, so that they cannot meet
    names = Names(TYPES)
    types = Types(contract.schemas, names)
    parts = [_HEAD, *types.declarations().values()]
    if contract.connects_with is not None:
        mark = "" if contract.connects_with.required else "?"
        parts.append(_CONNECTION.format(mark=mark, kind=types.expression(contract.connects_with.schema)))
    if contract.channels:
        parts.append(_SUBSCRIPTION)
    if any(_checked(each) for each in contract.channels):
        parts.append(_PART)
    parts += [_channel(each, types, names) for each in contract.channels]
    parts += [_procedure(each, types) for each in contract.procedures]
    return "\n".join(parts)


def _channel(channel: ChannelContract, types: Types, names: Names) -> str:
    name = names.take(pascal(channel.name) + "Subscription")
    receives = types.expression(channel.receives)
    members = [f"TypedSubscription<{receives}>"]
    if channel.sends is not None:
        members.append(f"TypedPublish<{types.expression(channel.sends)}>")
    if channel.reads_presence:
        members.append("TypedPresence")
    if channel.reads_history:
        members.append(f"TypedHistory<{receives}>")
    options, joined = "options?: SDK.SubscriptionOptions", channel.joins_with
    if joined is not None:
        kind = types.expression(joined.schema)
        members.append(f"{{ setData(data: {kind}): void }}")
        options = f"options: TypedOptions<{kind}>" if joined.required else f"options?: Partial<TypedOptions<{kind}>>"
    arguments = ["client: SDK.Centrifuge", *_parameters(channel), options]
    return (
        comment(f"A subscription to {channel.pattern}.")
        + f"export type {name} ={_both(members)};\n\n"
        + comment(channel.descriptions.get("on_subscribe", ""))
        + f"export function {channel.name}({_listed(arguments)}): {name} {{\n"
        + f"  return subscription(client, {_address(channel)}, options) as unknown as {name};\n}}\n"
    )


def _parameters(channel: ChannelContract) -> list[str]:
    members = [f"{name}: {'number' if kind in _NUMBERS else 'string'}" for name, kind in channel.parameters.items()]
    return [f"params: {{ {'; '.join(members)} }}"] if members else []


def _address(channel: ChannelContract) -> str:
    """``"chat:" + part(params.room)``."""
    pieces = []
    for number, text in enumerate(re.split(r"\{(.*?)\}", channel.address)):
        if number % 2:
            value = f"params.{text}"
            pieces.append(f"String({value})" if channel.parameters[text] == "path" else f"part({value})")
        elif text:
            pieces.append(json.dumps(text))
    return " + ".join(pieces)


def _both(types: list[str]) -> str:
    return " " + types[0] if len(types) == 1 else "\n  " + " &\n  ".join(types)


def _listed(arguments: list[str]) -> str:
    """In one line if there is room."""
    line = ", ".join(arguments)
    return line if len(line) < 80 else "\n  " + ",\n  ".join(arguments) + ",\n"


def _checked(channel: ChannelContract) -> bool:
    return any(kind != "path" for kind in channel.parameters.values())


def _procedure(procedure: ProcedureContract, types: Types) -> str:
    arguments = ["client: SDK.Centrifuge"]
    if procedure.takes is not None:
        mark = "" if procedure.takes.required else "?"
        arguments.append(f"data{mark}: {types.expression(procedure.takes.schema)}")
    method = json.dumps(procedure.method)
    call = f"await client.rpc({method}, {'data' if procedure.takes else 'null'})"
    # an answer without data is one whose value is null
    result = f"  {call};\n" if procedure.returns is None else f"  return ({call}).data ?? null;\n"
    kind = "void" if procedure.returns is None else types.expression(procedure.returns)
    return (
        comment(procedure.description)
        + f"export async function {procedure.name}({_listed(arguments)}): Promise<{kind}> {{\n{result}}}\n"
    )
