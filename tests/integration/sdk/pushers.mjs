// Drives pusher-js and Laravel Echo for the tests, in Node and in a page: JSON in, JSON out.
//
//   in    {"id": 1, "op": "trigger", "client": "c1", ...}                    a call
//   out   {"id": 1, "result": ...}  {"id": 1, "error": "..."}
//         {"client": "c1", "place": "news", "name": "headline", "data": ...}  what has happened at a channel
//
// Other places than channels: "" of the connection itself, "frames" all that has come, "user", "watchlist", and of Echo
// "private orders" for what it calls so.

const shown = (data) => {
  if (data?.members === undefined || data.me === undefined) return data;
  return { members: data.members, count: data.count, me: data.me };
};

// `builds` are the forms of pusher-js that there are, `servers` that of backends.
export const driver = (builds, Echo, Server) => (tell) => {
  const clients = new Map();
  const echoes = new Map();
  const servers = new Map();

  const watch = (client, pusher) => {
    const telling = (place) => (name, data) => tell({ client, place, name, data: shown(data) });
    clients.set(client, pusher);
    pusher.connection.bind('state_change', ({ current }) => telling('')(current));
    pusher.connection.bind('error', ({ error, data }) => telling('')('error', error?.data ?? data ?? String(error)));
    pusher.connection.bind('message', ({ event: name, channel, data, user_id: user }) =>
      tell({ client, place: 'frames', name, channel, data, user }),
    );
    pusher.user.bind_global(telling('user'));
    pusher.user.watchlist.bind_global(telling('watchlist'));
  };

  const operations = {
    open({ client, build, key, options }) {
      watch(client, new builds[build](key, options));
    },
    echo({ client, build, options }) {
      const echo = new Echo({ ...options, Pusher: builds[build] });
      echoes.set(client, echo);
      watch(client, echo.connector.pusher);
    },
    // With an event, what is known of its sender is told, too
    subscribe({ client, channel, event }) {
      const subscribed = clients.get(client).subscribe(channel);
      subscribed.bind_global((name, data) => name === event || tell({ client, place: channel, name, data: shown(data) }));
      if (event) {
        subscribed.bind(event, (data, metadata) =>
          tell({ client, place: channel, name: event, data, user: metadata?.user_id }),
        );
      }
    },
    unsubscribe: ({ client, channel }) => clients.get(client).unsubscribe(channel),
    trigger: ({ client, channel, event, data }) => clients.get(client).channel(channel).trigger(event, data),
    // Whatever it is, also what the library would not let pass
    say: ({ client, event, data, channel }) => clients.get(client).send_event(event, data, channel),
    signin: ({ client }) => clients.get(client).signin(),
    connect: ({ client }) => clients.get(client).connect(),
    disconnect: ({ client }) => clients.get(client).disconnect(),
    // Its network is gone: no close frame comes
    lose: ({ client }) => clients.get(client).connection.connection.transport.socket.close(),
    state: ({ client }) => clients.get(client).connection.state,
    socket: ({ client }) => clients.get(client).connection.socket_id,
    count: ({ client, channel }) => clients.get(client).channel(channel).subscriptionCount ?? null,
    members({ client, channel }) {
      const { members, count, me } = clients.get(client).channel(channel).members;
      return { members, count, me };
    },
    status: ({ client }) => echoes.get(client).connectionStatus(),
    // A call of one of Echo's channels that wants to be called back, as `listen`
    hear({ client, kind, channel, method, event }) {
      const place = `${kind} ${channel}`;
      const name = event ?? method;
      const given = event === null ? [] : [event];
      echoes.get(client)[kind](channel)[method](...given, (data) => tell({ client, place, name, data }));
    },
    whisper({ client, kind, channel, event, data }) {
      echoes.get(client)[kind](channel).whisper(event, data);
    },
    leave: ({ client, channel }) => echoes.get(client).leave(channel),
    // A call of a backend's library
    async serve({ server, method, given }) {
      const key = JSON.stringify(server);
      if (!servers.has(key)) servers.set(key, new Server(server));
      try {
        const answer = await servers.get(key)[method](...given);
        if (typeof answer?.isValid === 'function') return answer.isValid();
        return typeof answer?.text === 'function' ? { status: answer.status, body: await answer.text() } : answer;
      } catch (error) {
        if (error.status === undefined) throw error;
        return { status: error.status, body: error.body };
      }
    },
  };

  const take = async (call) => {
    try {
      tell({ id: call.id, result: (await operations[call.op](call)) ?? null });
    } catch (error) {
      tell({ id: call.id, error: String(error.message ?? error) });
    }
  };

  const end = () => clients.forEach((client) => client.disconnect());

  return { take, end };
};
