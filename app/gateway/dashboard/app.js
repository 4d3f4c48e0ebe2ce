// The page: a list of sessions, and one session live. Whatever comes from a session is set as text, never as markup.

import { follow } from "/dashboard/lines.js";
import { ready, signOut } from "/dashboard/login.js";

const KEPT = 2000; // rows in the page; the log keeps all
const LIST_EVERY = 5000; // ms
const RENEW_EVERY = 3600_000; // ms; a page that only follows a stream must ask for something, or its cookie ends
const CLOSED = new Set(["succeeded", "failed", "cancelled"]);

const $ = (id) => document.getElementById(id);

let stop = () => {};
let listing = null;
let sessions = new Map();

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// --- the list

async function fetchSessions(before) {
  const query = before ? `?limit=50&before=${encodeURIComponent(before)}` : "?limit=50";
  const answer = await fetch(`/sessions${query}`);
  if (!answer.ok) throw new Error((await answer.json()).detail);
  return answer.json();
}

function drawSessions() {
  const newestFirst = [...sessions.values()].sort((a, b) => (a.session_id < b.session_id ? 1 : -1));
  $("sessions").replaceChildren(
    ...newestFirst.map((session) => {
      const link = element("a");
      link.href = `#${session.session_id}`;
      link.append(
        element("span", `badge ${session.status}`, session.status),
        element("span", "task", session.task_is_cut ? `${session.task}…` : session.task),
        element("time", "", new Date(session.created_at).toLocaleString()),
      );
      const item = element("li");
      item.append(link);
      return item;
    }),
  );
  $("none").hidden = sessions.size > 0;
}

async function refreshList(before) {
  try {
    const page = await fetchSessions(before);
    for (const session of page.sessions) sessions.set(session.session_id, session);
    if (before || $("more").dataset.before === undefined) {
      $("more").dataset.before = page.next ?? "";
      $("more").hidden = !page.next;
    }
    drawSessions();
    connection("", "");
  } catch (error) {
    connection("lost", `no answer: ${error.message}`);
  }
}

function showList() {
  document.title = "Stellwerk";
  $("overview").hidden = false;
  $("session").hidden = true;
  refreshList();
  listing = setInterval(refreshList, LIST_EVERY);
}

// --- one session

function connection(state, text) {
  $("connection").className = state;
  $("connection").textContent = text;
}

function setStatus(status) {
  if (!status) return;
  $("status").className = `badge ${status}`;
  $("status").textContent = status;
}

function clearSession() {
  $("agents").replaceChildren();
  $("events").replaceChildren();
  $("problem").hidden = true;
}

function agentBar(name) {
  let row = [...$("agents").children].find((child) => child.dataset.agent === name);
  if (!row) {
    row = element("div", "agent");
    row.dataset.agent = name;
    const bar = element("progress");
    bar.max = 1;
    bar.setAttribute("aria-label", name);
    row.append(element("span", "who", name), bar, element("span", "says"));
    $("agents").append(row);
  }
  return row;
}

function setBar(name, pct, says) {
  const row = agentBar(name);
  const bar = row.querySelector("progress");
  if (pct === null || pct === undefined) bar.removeAttribute("value");
  else bar.value = Math.min(1, Math.max(0, pct));
  if (says) row.querySelector(".says").textContent = says;
}

function describe(event) {
  switch (event.t) {
    case "agent_event":
      return [event.agent, event.msg];
    case "step_event":
      return [event.agent, `step ${event.step} ${event.status}${event.error ? `: ${event.error}` : ""}`];
    case "session_event":
      return ["session", `${event.status}${event.reason ? `: ${event.reason}` : ""}`];
    case "approval_event":
      return ["approval", `step ${event.step} ${event.status}${event.comment ? `: ${event.comment}` : ""}`];
    case "workflow_event":
      return [event.node, "update"];
    case "model_event":
      return [event.agent, `${event.provider} ${event.model}${event.error ? `: ${event.error}` : ""}`];
    case "tool_event":
      return [event.agent, `${event.name}${event.error ? `: ${event.error}` : ""}`];
    default:
      return ["", event.t];
  }
}

function decision(details) {
  const box = element("dl", "decision");
  for (const key of ["next_agent", "reasoning", "confidence"]) {
    if (details[key] === undefined) continue;
    box.append(element("dt", "", key.replace("_", " ")), element("dd", "", String(details[key])));
  }
  return box;
}

function addEvent(event) {
  const [who, what] = describe(event);
  const row = element("li", `${event.t} ${event.phase ?? event.status ?? ""}`);
  const time = element("time", "", new Date(event.ts).toLocaleTimeString());
  time.title = `offset ${event.offset}, ${event.ts}`;
  row.append(time, element("span", "who", who), element("span", "what", what));
  if (event.phase === "decision") row.append(decision(event.details));
  const list = $("events");
  const atEnd = window.innerHeight + window.scrollY >= document.body.scrollHeight - 80;
  list.append(row);
  while (list.children.length > KEPT) list.firstElementChild.remove();
  if (atEnd) row.scrollIntoView({ block: "nearest" });
}

function take(event) {
  if (event.t === "agent_event") setBar(event.agent, event.pct, event.msg);
  if (event.t === "step_event" && event.status === "running") setBar(event.agent, null, "");
  if (event.t === "step_event" && event.status === "succeeded") setBar(event.agent, 1, "");
  if (event.t === "session_event") {
    setStatus(event.status);
    if (event.task) $("task").textContent = event.task;
  }
  addEvent(event);
}

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = false;
}

function showSession(id) {
  $("overview").hidden = true;
  $("session").hidden = false;
  clearSession();
  $("task").textContent = "";
  setStatus("connecting");
  $("facts").textContent = id;
  document.title = `Stellwerk · ${id.slice(-6)}`;
  connection("waiting", "connecting …");

  stop = follow(id, (what, data) => HEARD[what](data));
}

const HEARD = {
  event: take,
  stream(state) {
    setStatus(state.status);
    connection("live", CLOSED.has(state.status) ? "replay" : "live");
  },
  reset(state) {
    clearSession();
    problem(`The stream began anew: ${state.reason}`);
  },
  away(state) {
    connection("lost", `${state.reason}, coming back …`);
  },
  end(state) {
    setStatus(state.status);
    connection("ended", `complete, ${state.head} events`);
  },
  lost() {
    connection("lost", "line lost, coming back …");
  },
  refused() {
    connection("lost", "closed");
    problem("The gateway refused the stream: is the session's address right?");
  },
};

function route() {
  stop();
  stop = () => {};
  clearInterval(listing);
  connection("", "");
  const id = decodeURIComponent(location.hash.slice(1));
  if (id) showSession(id);
  else showList();
}

$("more").addEventListener("click", () => refreshList($("more").dataset.before));
$("sign-out").addEventListener("click", signOut);
window.addEventListener("hashchange", route);
setInterval(() => fetch("/sessions?limit=1").catch(() => {}), RENEW_EVERY);
await ready;
route();
