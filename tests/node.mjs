// Serves tests over TCP, from the port that it says first: JSON lines in, JSON lines out.
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';

// `begin(tell)` is called for each connection, and gives what takes its messages and what ends it. The program ends
// with its standard input, after `finish`.
export function serve(begin, finish = () => {}) {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const tell = (message) => socket.writable && socket.write(`${JSON.stringify(message)}\n`);
    const { take, end } = begin(tell);
    socket.on('error', () => {}); // the test is gone
    createInterface({ input: socket })
      .on('line', (line) => void take(JSON.parse(line)))
      .on('close', async () => {
        await end();
        socket.end();
      });
  });
  server.listen(0, '127.0.0.1', () => console.log(server.address().port));
  process.stdin.resume().on('end', async () => {
    await finish();
    process.exit();
  });
}
