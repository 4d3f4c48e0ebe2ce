// node follow.mjs CLIENT ADDRESS TOKEN: prints what the client hands to its application, until it is over.
// A line is a message: its event, its id and its data, with tabs between them.
import { EventSource } from "eventsource";
import { createEventSource } from "eventsource-client";
import polyfill from "event-source-polyfill";

const [client, address, token] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${token}` };
const kinds = ["stream", "agent", "session", "reset", "away", "cursor", "heartbeat", "end"];
const print = ({ event, id, data }) => process.stdout.write(`${event ?? ""}\t${id ?? ""}\t${data}\n`);

// What a page does with the browser's: a listener for each kind, and for messages without one.
function listen(source) {
  for (const kind of ["message", ...kinds])
    source.addEventListener(kind, ({ data, lastEventId }) => {
      print({ event: kind, id: lastEventId, data });
      if (kind === "end") source.close();
    });
}

const clients = {
  eventsource() {
    listen(new EventSource(address, { fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...headers } }) }));
  },
  "event-source-polyfill"() {
    listen(new polyfill.EventSourcePolyfill(address, { headers }));
  },
  "eventsource-client"() {
    const source = createEventSource({
      url: address,
      headers,
      onMessage(message) {
        print(message);
        if (message.event === "end") source.close();
      },
    });
  },
  async "@microsoft/fetch-event-source"() {
    globalThis.window = globalThis; // it was written for browsers
    globalThis.document = { hidden: false, removeEventListener() {} };
    const { fetchEventSource } = await import("@microsoft/fetch-event-source/lib/cjs/index.js").then((it) => it.default);
    const leave = new AbortController();
    let last; // its own last id is that of a line, also if the rest of the message was cut off
    await fetchEventSource(address, {
      headers,
      signal: leave.signal,
      openWhenHidden: true,
      fetch(url, init) {
        const { "last-event-id": _, ...rest } = init.headers;
        return fetch(url, { ...init, headers: last ? { ...rest, "last-event-id": last } : rest });
      },
      async onopen(response) {
        if (response.status !== 200) throw new Error(`status ${response.status}`);
      },
      onmessage(message) {
        print(message);
        last = message.id || last;
        if (message.event === "end") leave.abort();
      },
      onclose() {
        throw new Error("cut off"); // a body that is over without `end`; thrown, it comes back
      },
    });
  },
};
await clients[client]();
