// The Pusher protocol on plain ws: public channels, and events that a backend posts; one JSON.stringify, then a loop.
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

import { WebSocket, WebSocketServer } from "ws";

const [port, app, key, secret] = process.argv.slice(2);
const channels = new Map(); // by name the sockets that have subscribed

const hex = (digest) => Buffer.from(digest.digest("hex"));

function isSigned(url, body) {
  const { auth_signature: signature = "", ...rest } = Object.fromEntries(url.searchParams);
  const query = Object.keys(rest).sort().map((name) => `${name}=${rest[name]}`).join("&");
  const expected = hex(createHmac("sha256", secret).update(`POST\n${url.pathname}\n${query}`));
  const given = Buffer.from(signature);
  const fits = rest.body_md5 === createHash("md5").update(body).digest("hex");
  return fits && rest.auth_key === key && given.length === expected.length && timingSafeEqual(given, expected);
}

function publish(body) {
  const { name, data, channels: names } = JSON.parse(body);
  for (const channel of names) {
    const message = JSON.stringify({ event: name, channel, data });
    for (const socket of channels.get(channel) ?? []) {
      if (socket.readyState === WebSocket.OPEN) socket.send(message);
    }
  }
}

const http = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const url = new URL(request.url, "http://localhost");
    const body = Buffer.concat(parts);
    const good = url.pathname === `/apps/${app}/events` && isSigned(url, body);
    if (good) publish(body);
    response.writeHead(good ? 200 : 401, { "content-type": "application/json", "content-length": 2 }).end("{}");
  });
});

const server = new WebSocketServer({ server: http, perMessageDeflate: false });

server.on("connection", (socket) => {
  const id = `${Math.floor(Math.random() * 1e9)}.${Math.floor(Math.random() * 1e9)}`;
  const say = (event, data, channel) => socket.send(JSON.stringify({ event, channel, data }));
  const left = new Set();
  socket.on("error", () => socket.terminate());
  socket.on("close", () => left.forEach((channel) => channels.get(channel).delete(socket)));
  socket.on("message", (text) => {
    const { event, data } = JSON.parse(text);
    if (event === "pusher:ping") say("pusher:pong", "{}");
    if (event !== "pusher:subscribe") return;
    if (!channels.has(data.channel)) channels.set(data.channel, new Set());
    channels.get(data.channel).add(socket);
    left.add(data.channel);
    say("pusher_internal:subscription_succeeded", "{}", data.channel);
  });
  say("pusher:connection_established", JSON.stringify({ socket_id: id, activity_timeout: 120 }));
});

http.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 });
