// Drives the official JavaScript SDK for the tests, each of which has clients of its own.
//
//   in    {"id": 1, "op": "publish", "client": "c1", ...}         a call
//         {"ask": 1, "token": "..."}  {"ask": 1, "failure": "..."} the answer to a question
//   out   {"id": 1, "result": ...}  {"id": 1, "error": {code, message}}
//         {"client": "c1", "subscription": "s1", "event": {...}}  without subscription: of the client itself
//         {"ask": 1, "client": "c1", "channel": "..."}            a token is wanted; without channel: to connect
import { Centrifuge, UnauthorizedError } from 'centrifuge';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { serve } from '../../node.mjs';

const info = ({ user, client, connInfo, chanInfo }) => ({ user, client, conn_info: connInfo, chan_info: chanInfo });

const publication = ({ data, offset, tags, info: by }) => ({ data, offset, tags, info: by && info(by) });

const entry = ({ key, ...ctx }) => ({ key, ...publication(ctx) });

const subscribed = (ctx) => ({
  recoverable: ctx.recoverable,
  positioned: ctx.positioned,
  was_recovering: ctx.wasRecovering,
  recovered: ctx.recovered,
  offset: ctx.streamPosition?.offset,
  epoch: ctx.streamPosition?.epoch,
  data: ctx.data,
  entries: ctx.state?.map(entry),
});

const FIELDS = {
  connecting: ({ code, reason }) => ({ code, reason }),
  connected: ({ client, transport }) => ({ client, transport }),
  disconnected: ({ code, reason }) => ({ code, reason }),
  error: ({ error }) => ({ code: error.code, reason: error.message }),
  subscribing: ({ code, reason }) => ({ code, reason }),
  subscribed,
  unsubscribed: ({ code, reason }) => ({ code, reason }),
  publication,
  join: (ctx) => ({ info: info(ctx.info) }),
  leave: (ctx) => ({ info: info(ctx.info) }),
  message: ({ data }) => ({ data }),
};

const OF_CLIENT = Object.keys(FIELDS);

FIELDS.update = (ctx) => ({ ...entry(ctx), removed: ctx.removed ?? false });
FIELDS.sync = ({ entries }) => ({ entries: entries.map(entry) });

const OF_SUBSCRIPTION = ['subscribing', 'subscribed', 'unsubscribed', 'publication', 'join', 'leave', 'error'];
const OF_MAP = ['subscribing', 'subscribed', 'unsubscribed', 'sync', 'update', 'error'];
const MAPS = { 1: 'newMapSubscription', 2: 'newMapClientsSubscription', 3: 'newMapUsersSubscription' };

function begin(tell) {
  const clients = new Map();
  const subscriptions = new Map();
  const questions = new Map();

  const ask = (client, channel) =>
    new Promise((answer, reject) => {
      const id = questions.size + 1;
      questions.set(id, { answer, reject });
      tell({ ask: id, client, channel });
    });

  const report = (emitter, names, from) => {
    for (const name of names) {
      emitter.on(name, (ctx) => tell({ ...from, event: { name, channel: ctx.channel, ...FIELDS[name](ctx) } }));
    }
  };

  const operations = {
    create({ client, endpoints, emulation, token, asks, pingDelay }) {
      const centrifuge = new Centrifuge(endpoints, {
        websocket: WebSocket,
        eventsource: EventSource,
        fetch,
        readableStream: ReadableStream,
        emulationEndpoint: emulation,
        token: token ?? '',
        getToken: asks ? () => ask(client) : null,
        minReconnectDelay: 50,
        maxReconnectDelay: 500,
        maxServerPingDelay: pingDelay,
      });
      clients.set(client, centrifuge);
      report(centrifuge, OF_CLIENT, { client });
    },
    subscription({ client, subscription, channel, token, asks, recoverable, positioned, joinLeave, since, ...more }) {
      const options = { recoverable, positioned, joinLeave, minResubscribeDelay: 50, maxResubscribeDelay: 500 };
      if (token) options.token = token;
      if (asks) options.getToken = () => ask(client, channel);
      if (since) options.since = since;
      if (more.delta) options.delta = more.delta;
      if (more.tagsFilter) options.tagsFilter = more.tagsFilter;
      const made = clients.get(client).newSubscription(channel, options);
      subscriptions.set(subscription, made);
      report(made, OF_SUBSCRIPTION, { client, subscription });
    },
    map({ client, subscription, channel, asks, kind, options }) {
      const made = clients.get(client)[MAPS[kind]](channel, {
        minResubscribeDelay: 50,
        maxResubscribeDelay: 500,
        ...(asks ? { getToken: () => ask(client, channel) } : {}),
        ...options,
      });
      subscriptions.set(subscription, made);
      report(made, OF_MAP, { client, subscription });
    },
    mapPublish: ({ subscription, key, data }) => subscriptions.get(subscription).publish(key, data),
    mapRemove: ({ subscription, key }) => subscriptions.get(subscription).remove(key),
    setTagsFilter: ({ subscription, filter }) => subscriptions.get(subscription).setTagsFilter(filter),
    connect: ({ client }) => clients.get(client).connect(),
    disconnect: ({ client }) => clients.get(client).disconnect(),
    flicker({ client }) {
      clients.get(client).connect();
      clients.get(client).disconnect();
    },
    state: ({ client }) => clients.get(client).state,
    subscribe: ({ subscription }) => subscriptions.get(subscription).subscribe(),
    unsubscribe: ({ subscription }) => subscriptions.get(subscription).unsubscribe(),
    deltaStats: ({ subscription }) => subscriptions.get(subscription).deltaStats(),
    remove: ({ client, subscription }) => clients.get(client).removeSubscription(subscriptions.get(subscription)),
    async publish({ client, channel, items }) {
      await Promise.all(items.map((item) => clients.get(client).publish(channel, item)));
    },
    async presence({ client, channel }) {
      const result = await clients.get(client).presence(channel);
      return Object.fromEntries(Object.entries(result.clients).map(([id, member]) => [id, info(member)]));
    },
    async presenceStats({ client, channel }) {
      const { numClients, numUsers } = await clients.get(client).presenceStats(channel);
      return [numClients, numUsers];
    },
    async history({ client, channel, limit, since, reverse }) {
      const result = await clients.get(client).history(channel, { limit, since: since ?? undefined, reverse });
      return { ...result, publications: result.publications.map(publication) };
    },
    async rpc({ client, method, data }) {
      return (await clients.get(client).rpc(method, data)).data;
    },
    send: ({ client, data }) => clients.get(client).send(data),
  };

  const answer = ({ ask: id, token, failure }) => {
    const { answer, reject } = questions.get(id);
    if (failure === undefined) answer(token);
    else reject(failure === 'unauthorized' ? new UnauthorizedError(failure) : new Error(failure));
  };

  const take = async (call) => {
    if (call.ask !== undefined) return answer(call);
    try {
      tell({ id: call.id, result: (await operations[call.op](call)) ?? null });
    } catch (error) {
      tell({ id: call.id, error: { code: error.code ?? 0, message: String(error.message ?? error) } });
    }
  };

  const end = () => clients.forEach((client) => client.disconnect());

  return { take, end };
}

serve(begin);
