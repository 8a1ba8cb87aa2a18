// Drives the official JavaScript SDK for the tests, in Node and in a page: JSON in, JSON out.
//
//   in    {"id": 1, "op": "publish", "client": "c1", ...}         a call
//         {"ask": 1, "token": "..."}  {"ask": 1, "failure": "..."} the answer to a question
//   out   {"id": 1, "result": ...}  {"id": 1, "error": {code, message}}
//         {"client": "c1", "subscription": "s1", "event": {...}}  without subscription: of the client itself
//         {"ask": 1, "client": "c1", "channel": "..."}            a token is wanted; without channel: to connect;
//                                                                 with "keys", a signature of these
//
// A client made with "protobuf" speaks that. What is bytes there and no JSON stands in lines as {"$bytes": "<base64>"}.

const AS_IT_IS = { wrap: (value) => value, unwrap: (value) => value };
const AS_BYTES = {
  wrap: (value) =>
    value?.$bytes === undefined
      ? new TextEncoder().encode(JSON.stringify(value ?? null))
      : Uint8Array.from(atob(value.$bytes), (each) => each.charCodeAt()),
  unwrap(bytes) {
    if (!bytes?.length) return undefined;
    try {
      return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    } catch {
      return { $bytes: btoa(String.fromCharCode(...bytes)) };
    }
  },
};

const info = ({ user, client, connInfo, chanInfo }, { unwrap }) => ({
  user,
  client,
  conn_info: unwrap(connInfo),
  chan_info: unwrap(chanInfo),
});

const publication = ({ data, offset, tags, info: by }, form) => ({
  data: form.unwrap(data),
  offset,
  tags,
  info: by && info(by, form),
});

const entry = ({ key, removed, score, ...ctx }, form) => ({ key, removed, score, ...publication(ctx, form) });

const subscribed = (ctx, form) => ({
  recoverable: ctx.recoverable,
  positioned: ctx.positioned,
  was_recovering: ctx.wasRecovering,
  recovered: ctx.recovered,
  offset: ctx.streamPosition?.offset,
  epoch: ctx.streamPosition?.epoch,
  data: form.unwrap(ctx.data),
  entries: ctx.state?.map((each) => entry(each, form)),
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
  join: (ctx, form) => ({ info: info(ctx.info, form) }),
  leave: (ctx, form) => ({ info: info(ctx.info, form) }),
  message: ({ data }, { unwrap }) => ({ data: unwrap(data) }),
};

const OF_CLIENT = Object.keys(FIELDS);

FIELDS.update = (ctx, form) => ({ ...entry(ctx, form), version: ctx.version ?? 0, removed: ctx.removed ?? false });
FIELDS.sync = ({ entries }, form) => ({ entries: entries.map((each) => entry(each, form)) });

const OF_SUBSCRIPTION = ['subscribing', 'subscribed', 'unsubscribed', 'publication', 'update', 'join', 'leave', 'error'];
const OF_MAP = ['subscribing', 'subscribed', 'unsubscribed', 'sync', 'update', 'error'];
const MAPS = { 1: 'newMapSubscription', 2: 'newMapClientsSubscription', 3: 'newMapUsersSubscription' };

// What gives `take` and `end` for a connection of a test. `json` and `protobuf` are the two forms of the SDK, `options`
// what it has to be given where it runs.
export const driver = (json, protobuf, options) => (tell) => {
  const clients = new Map();
  const forms = new Map();
  const subscriptions = new Map();
  const questions = new Map();
  const refreshes = new Map();

  const ask = (client, channel, keys) =>
    new Promise((answer, reject) => {
      const id = questions.size + 1;
      questions.set(id, { answer, reject, client });
      tell({ ask: id, client, channel, keys });
    });

  // What a client says of the keys that it tracks is kept, where it is text.
  const socketOf = (client) =>
    class extends (options.websocket ?? WebSocket) {
      send(data, ...rest) {
        if (typeof data === 'string' && data.includes('"sub_refresh"')) {
          const commands = data.trim().split('\n').map((line) => JSON.parse(line).sub_refresh);
          refreshes.get(client).push(...commands.filter(Boolean));
        }
        super.send(data, ...rest);
      }
    };

  const report = (emitter, names, from) => {
    const form = forms.get(from.client);
    for (const name of names) {
      emitter.on(name, (ctx) => tell({ ...from, event: { name, channel: ctx.channel, ...FIELDS[name](ctx, form) } }));
    }
  };

  const operations = {
    create({ client, endpoints, emulation, protobuf: binary, token, asks, pingDelay }) {
      const centrifuge = new (binary ? protobuf : json).Centrifuge(endpoints, {
        ...options,
        websocket: socketOf(client),
        emulationEndpoint: emulation,
        token: token ?? '',
        getToken: asks ? () => ask(client) : null,
        minReconnectDelay: 50,
        maxReconnectDelay: 500,
        maxServerPingDelay: pingDelay,
      });
      clients.set(client, centrifuge);
      refreshes.set(client, []);
      forms.set(client, binary ? AS_BYTES : AS_IT_IS);
      report(centrifuge, OF_CLIENT, { client });
    },
    subscription({ client, subscription, channel, token, asks, recoverable, positioned, joinLeave, since, ...more }) {
      const options = { recoverable, positioned, joinLeave, minResubscribeDelay: 50, maxResubscribeDelay: 500 };
      if (token) options.token = token;
      if (asks) options.getToken = () => ask(client, channel);
      if (since) options.since = since;
      if (more.delta) options.delta = more.delta;
      if (more.tagsFilter) options.tagsFilter = more.tagsFilter;
      if (more.loads) options.getState = async () => JSON.parse(await ask(client, `state of ${channel}`));
      if (more.signs) options.getSignature = async ({ keys }) => JSON.parse(await ask(client, channel, keys));
      const kind = more.polled ? 'newSharedPollSubscription' : 'newSubscription';
      const made = clients.get(client)[kind](channel, options);
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
      made.form = forms.get(client);
      subscriptions.set(subscription, made);
      report(made, OF_MAP, { client, subscription });
    },
    mapPublish({ subscription, key, data }) {
      const made = subscriptions.get(subscription);
      return made.publish(key, made.form.wrap(data));
    },
    mapRemove: ({ subscription, key }) => subscriptions.get(subscription).remove(key),
    setTagsFilter: ({ subscription, filter }) => subscriptions.get(subscription).setTagsFilter(filter),
    connect: ({ client }) => clients.get(client).connect(),
    disconnect: ({ client }) => clients.get(client).disconnect(),
    flicker({ client }) {
      clients.get(client).connect();
      clients.get(client).disconnect();
    },
    track({ client, subscription, batches }) {
      clients.get(client).startBatching();
      batches.forEach(({ keys, signature }) => subscriptions.get(subscription).track(keys, signature));
      clients.get(client).stopBatching();
    },
    untrack: ({ subscription, keys }) => subscriptions.get(subscription).untrack(keys),
    tracked: ({ subscription }) => [...subscriptions.get(subscription).trackedKeys()],
    refreshes: ({ client }) => refreshes.get(client),
    // the SDK tells nobody, and goes by it
    pollEpoch: ({ subscription }) => subscriptions.get(subscription)._sharedPollEpoch,
    state: ({ client }) => clients.get(client).state,
    subscribe: ({ subscription }) => subscriptions.get(subscription).subscribe(),
    unsubscribe: ({ subscription }) => subscriptions.get(subscription).unsubscribe(),
    deltaStats: ({ subscription }) => subscriptions.get(subscription).deltaStats(),
    remove: ({ client, subscription }) => clients.get(client).removeSubscription(subscriptions.get(subscription)),
    async publish({ client, channel, items }) {
      await Promise.all(items.map((item) => clients.get(client).publish(channel, forms.get(client).wrap(item))));
    },
    async presence({ client, channel }) {
      const result = await clients.get(client).presence(channel);
      const form = forms.get(client);
      return Object.fromEntries(Object.entries(result.clients).map(([id, member]) => [id, info(member, form)]));
    },
    async presenceStats({ client, channel }) {
      const { numClients, numUsers } = await clients.get(client).presenceStats(channel);
      return [numClients, numUsers];
    },
    async history({ client, channel, limit, since, reverse }) {
      const result = await clients.get(client).history(channel, { limit, since: since ?? undefined, reverse });
      return { ...result, publications: result.publications.map((each) => publication(each, forms.get(client))) };
    },
    async rpc({ client, method, data }) {
      const { wrap, unwrap } = forms.get(client);
      return unwrap((await clients.get(client).rpc(method, wrap(data))).data);
    },
    send: ({ client, data }) => clients.get(client).send(forms.get(client).wrap(data)),
  };

  const answer = ({ ask: id, token, failure }) => {
    const { answer, reject, client } = questions.get(id);
    const { UnauthorizedError } = forms.get(client) === AS_BYTES ? protobuf : json;
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
};
