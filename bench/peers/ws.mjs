// Plain ws with Redis pub/sub between processes: one channel, a loop that sends.
import { createClient } from "redis";
import { WebSocket, WebSocketServer } from "ws";

const CHANNEL = "bench";

const publisher = createClient({ url: process.env.BENCH_REDIS });
const subscriber = publisher.duplicate();
await Promise.all([publisher.connect(), subscriber.connect()]);

const server = new WebSocketServer({
  port: Number(process.argv[2]),
  host: "127.0.0.1",
  backlog: 4096,
  perMessageDeflate: false,
});

server.on("connection", (socket) => {
  socket.on("error", () => socket.terminate());
  socket.on("message", (data) => publisher.publish(CHANNEL, data));
});

await subscriber.subscribe(
  CHANNEL,
  (message) => {
    for (const socket of server.clients) {
      if (socket.readyState === WebSocket.OPEN) socket.send(message, { binary: false });
    }
  },
  true, // as a Buffer: it goes out as it came
);
