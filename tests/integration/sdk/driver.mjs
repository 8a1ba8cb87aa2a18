// Drives the official JavaScript SDK in Node, as `clients.mjs` says.
import * as json from 'centrifuge';
import * as protobuf from 'centrifuge/build/protobuf';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { serve } from '../../node.mjs';
import { driver } from './clients.mjs';

serve(driver(json, protobuf, { websocket: WebSocket, eventsource: EventSource, fetch, readableStream: ReadableStream }));
