// What an application writes with the generated client; the test compiles and runs it.
import type { Centrifuge } from "centrifuge";
import { adminCloseRoom, answers, callChat, chat, chatTyping, parts, rooms, talk } from "./client.js";
import type { ChatMessageOutput, ClientOptions, Room } from "./client.js";

export const options: ClientOptions = { data: { locale: "de" } };

export async function use(client: Centrifuge): Promise<unknown> {
  const lobby = chat(client, { room: "lobby" }, { data: { nickname: "ann" } });
  const heard = new Promise<ChatMessageOutput>((resolve) => lobby.on("publication", (ctx) => resolve(ctx.data)));
  lobby.subscribe();
  await lobby.ready();
  await lobby.publish({ text: "hi", "content-type": "text/markdown", extras: [{ kind: "file", url: "/a", size: 3 }] });
  const message = await heard;
  const { clients } = await lobby.presence();
  const { numUsers } = await lobby.presenceStats();
  const { publications } = await lobby.history({ limit: 10 });
  const found: Room[] = await rooms(client, { search: "den" });
  const [all] = await rooms(client);
  const refused = await adminCloseRoom(client, { kept: false }).then(
    () => "closed",
    (error: { code: number }) => error.code,
  );
  const talking = talk(client, { room: "den" });
  const told: string[] = [];
  const allTold = new Promise<void>((resolve) =>
    talking.on("publication", ({ data }) => {
      if (data.event === "remark") told.push(data.data.trim());
      else if (data.event === "file") told.push(String(data.data.size));
      else if (data.event === "arrived") told.push(data.data.nickname);
      else if (told.push(String(data.data)) === 3) resolve();
    }),
  );
  talking.subscribe();
  await talking.ready();
  await talking.publish({ event: "remark", data: "so " });
  await talking.publish({ event: "file", data: { url: "/a", size: 3 } });
  await talking.publish({ event: "typing" });
  await allTold;
  answers(client, { number: 1 }).on("publication", ({ data }) => (data === null ? "the end" : data.trim()));
  parts(client).on("publication", ({ data }) => (data.kind === "file" ? data.size : data.points.length));
  return {
    told,
    text: message.text.toUpperCase(),
    type: message["content-type"],
    color: message.color,
    sizes: message.extras.map((extra) => (extra.kind === "file" ? extra.size : extra.points.length)),
    same: chat(client, { room: "lobby" }, { data: { nickname: "bob" } }) === lobby,
    present: Object.values(clients).map(({ user, chanInfo }) => ({ user, chanInfo })),
    numUsers,
    past: publications.map((publication) => publication.data.text),
    rooms: [...found.map((room) => room.name), all?.name],
    echo: await callChat(client, "so"),
    nothing: await callChat(client, ""),
    refused,
    astray: thrown(() => chatTyping(client, { room: "a:b" })),
    channel: chatTyping(client, { room: "den" }).channel,
  };
}

function thrown(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    return (error as Error).message;
  }
  return "";
}
