// Lines to the gateway, which all tabs of this browser share: over HTTP/1.1 it opens six connections to one gateway, and
// a stream in a seventh tab would hang, with every other request. So four tabs follow by EventSource; others read pages
// until one of the four is closed.

const LINES = 4;
const PAGE = 1000; // events
const POLL_EVERY = 2000; // ms
const KINDS = ["agent", "workflow", "step", "session", "approval", "model", "tool", "erased"];

// Follows a session from its beginning. `hear(what, data)` is told `event`, and `stream`, `reset`, `away`, `end` as on
// the wire; `lost` when the line is, and `refused` when there is no such stream. Returns what stops it.
export function follow(session, hear) {
  const stopping = new AbortController();
  keepUp(session, hear, stopping.signal);
  return () => stopping.abort();
}

async function keepUp(session, hear, signal) {
  let cursor = "0";
  while (cursor !== null && !signal.aborted) {
    const release = await takeLine();
    if (release) {
      await listen(session, cursor, hear, signal);
      release();
      return;
    }
    try {
      cursor = await readPages(session, cursor, hear, signal);
    } catch (error) {
      if (!signal.aborted) hear("lost", {});
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_EVERY));
  }
}

// What gives a line back, or null where all are taken. Browsers lend locks only to pages from https and from this machine.
async function takeLine() {
  if (!navigator.locks) return () => {};
  for (let number = 0; number < LINES; number += 1) {
    const release = await new Promise((resolve) => {
      navigator.locks.request(`stellwerk-line-${number}`, { ifAvailable: true }, (lock) =>
        lock ? new Promise(resolve) : resolve(null),
      );
    });
    if (release) return release;
  }
  return null;
}

function listen(session, cursor, hear, signal) {
  return new Promise((resolve) => {
    const source = new EventSource(`/events?session_id=${encodeURIComponent(session)}&after=${cursor}`);
    const close = () => {
      source.close();
      resolve();
    };
    signal.addEventListener("abort", close);
    for (const kind of KINDS) source.addEventListener(kind, (message) => hear("event", JSON.parse(message.data)));
    for (const kind of ["stream", "reset", "away", "end"]) {
      source.addEventListener(kind, (message) => hear(kind, JSON.parse(message.data)));
    }
    source.addEventListener("end", close);
    source.onerror = () => {
      if (source.readyState === EventSource.CONNECTING) return hear("lost", {});
      hear("refused", {});
      close();
    };
  });
}

// Reads all that there is; returns the cursor to go on from, or null when nothing will come any more.
async function readPages(session, cursor, hear, signal) {
  for (;;) {
    const address = `/sessions/${encodeURIComponent(session)}/events?after=${cursor}&limit=${PAGE}`;
    const answer = await fetch(address, { headers: { Accept: "application/json" }, signal });
    const page = await answer.json();
    if (answer.status === 410) {
      hear("reset", { reason: page.detail });
      cursor = page.cursor;
      continue;
    }
    if (answer.status === 404) {
      hear("refused", {});
      return null;
    }
    if (!answer.ok) throw new Error(page.detail);
    hear("stream", page);
    for (const event of page.events) hear("event", event);
    cursor = page.next;
    if (page.events.length < PAGE) {
      if (page.closed) hear("end", page);
      return page.closed ? null : cursor;
    }
  }
}
