// Socket.IO with the Redis adapter: rooms, WebSocket transport only.
import { createServer } from "node:http";

import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const publisher = createClient({ url: process.env.BENCH_REDIS });
const subscriber = publisher.duplicate();
await Promise.all([publisher.connect(), subscriber.connect()]);

const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(publisher, subscriber),
  perMessageDeflate: false,
  serveClient: false,
  transports: ["websocket"],
});

// As its documentation advises for less memory: the request of the handshake is not kept
io.engine.on("connection", (connection) => {
  connection.request = null;
});

io.on("connection", (socket) => {
  socket.on("subscribe", async (channel, done) => {
    await socket.join(channel);
    done();
  });
  socket.on("publish", (channel, data) => io.to(channel).emit("message", data));
});

http.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
