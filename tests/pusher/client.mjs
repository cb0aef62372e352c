// The real pusher-js, driven by lines of JSON: {id, do, …} on standard input. What each client
// hears is told on standard output, a line each.
import { createInterface } from "node:readline";
import pusherJs from "pusher-js";

const Pusher = pusherJs.Pusher ?? pusherJs.default ?? pusherJs;
const clients = new Map();
const tell = (id, on, more) => process.stdout.write(JSON.stringify({ id, on, ...more }) + "\n");

const commands = {
  connect({ id, key, port, token, options }) {
    const client = new Pusher(key, {
      cluster: "x",
      wsHost: "127.0.0.1",
      wsPort: port,
      forceTLS: false,
      disableStats: true,
      enabledTransports: ["ws"],
      channelAuthorization: {
        endpoint: `http://127.0.0.1:${port}/pusher/auth`,
        transport: "ajax",
        headers: { Authorization: `Bearer ${token}` },
      },
      ...options,
    });
    clients.set(id, client);
    client.connection.bind("state_change", ({ previous, current }) =>
      tell(id, "state", { previous, current, socket_id: client.connection.socket_id ?? null }),
    );
    client.connection.bind("error", (error) => tell(id, "error", { data: error?.data ?? error?.error?.data ?? null }));
  },
  subscribe({ id, channel }) {
    const subscription = clients.get(id).subscribe(channel);
    // Callbacks for all events are not given the metadata.
    const emit = subscription.emit.bind(subscription);
    subscription.emit = (event, data, metadata) => {
      const members = data?.members ? { members: data.members, me: data.me } : {};
      tell(id, "event", { channel, event, data: data ?? null, metadata: metadata ?? null, ...members });
      return emit(event, data, metadata);
    };
  },
  unsubscribe({ id, channel }) {
    clients.get(id).unsubscribe(channel);
  },
  trigger({ id, channel, event, data }) {
    tell(id, "triggered", { sent: clients.get(id).channel(channel).trigger(event, data) });
  },
  send({ id, event, data, channel }) {
    // As a client that heeds none of pusher-js's own rules would.
    clients.get(id).connection.send_event(event, data, channel);
  },
  disconnect({ id }) {
    clients.get(id).disconnect();
  },
};

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    commands[command.do](command);
  })
  .on("close", () => process.exit(0));
tell(null, "ready", {});
