// Runs the compiled application against the gateway whose address it is given; prints what it has found.
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { options, use } from './use.js';

const client = new Centrifuge(process.argv[2], { ...options, websocket: WebSocket });
client.connect();
await client.ready();
process.stdout.write(JSON.stringify(await use(client)));
client.disconnect();
