// What must not compile: without an error in the line below it, a directive is one itself.
import type { Centrifuge } from "centrifuge";
import { adminCloseRoom, callChat, chat, orders, rooms, state, ticks } from "./client.js";
import type { ChatMessageInput, ChatMessageOutput, ClientOptions, Color, Order, Point } from "./client.js";

export async function wrong(client: Centrifuge): Promise<void> {
  const joining = { data: { nickname: "ann" } };
  const lobby = chat(client, { room: "lobby" }, joining);
  // @ts-expect-error  no such parameter
  chat(client, { place: "lobby" }, joining);
  // @ts-expect-error  a room is text
  chat(client, { room: 1 }, joining);
  // @ts-expect-error  who joins has a name
  chat(client, { room: "lobby" });
  // @ts-expect-error  which is text
  chat(client, { room: "lobby" }, { data: { nickname: 5 } });
  // @ts-expect-error  a number is one
  orders(client, { number: "7" });
  // @ts-expect-error  no text
  await lobby.publish({});
  // @ts-expect-error  no color
  await lobby.publish({ text: "", color: "green" });
  // @ts-expect-error  neither a file nor a drawing
  await lobby.publish({ text: "", extras: [{ kind: "sound", url: "", size: 1 }] });
  // @ts-expect-error  clients may not publish there
  await ticks(client, { symbol: "x" }).publish({ at: 1 });
  // @ts-expect-error  nor read the past
  await ticks(client, { symbol: "x" }).history({ limit: 1 });
  // @ts-expect-error  nor who is there
  await ticks(client, { symbol: "x" }).presence();
  // @ts-expect-error  no such field
  lobby.on("publication", (ctx) => ctx.data.body);
  // @ts-expect-error  as published: the symbol is text, also where it was not sent
  state(client).on("publication", (ctx) => ctx.data.symbol.limit);
  // @ts-expect-error  no such event
  lobby.on("publicity", () => undefined);
  // @ts-expect-error  a limit is a number
  await rooms(client, { limit: "all" });
  // @ts-expect-error  it returns nothing
  (await adminCloseRoom(client, { kept: true })).closed;
  // @ts-expect-error  may be null
  (await callChat(client, "")).length;
}

// @ts-expect-error  what was sent may leave out the color; what is received never does
export const received: ChatMessageOutput = { text: "" } satisfies ChatMessageInput;
// @ts-expect-error  a point has a whole number first
export const point: Point = [];
export const right: [Point, Color] = [[1], "red"];
// @ts-expect-error  what comes with a connect is declared
export const options: ClientOptions = { data: { language: "de" } };
export const order = (given: Order): number | undefined => given.where?.[0];
