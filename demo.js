// Shows what the server says: what was negotiated, its events, the chat, transfers.
// Whatever comes from other people is set as text, never as markup.
"use strict";

const MAX_LOG_LINES = 200;
const MAX_HASHED_BYTES = 64 * 1024 * 1024; // The browser hashes only what it holds in memory as a whole.
const RANDOM_BYTES = 32 * 1024 * 1024;
const LONGEST_RETRY_SECONDS = 15;

const byId = (id) => document.getElementById(id);

function show(id, text) {
  byId(id).textContent = text;
}

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function clockTime(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });
}

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = Math.max(parts.findIndex(([size]) => seconds >= size), 0);
  const shown = seconds < 1 ? [[1, "s"]] : parts.slice(first, first + 2);
  let rest = Math.floor(seconds);
  return shown.map(([size, unit]) => {
    const count = Math.floor(rest / size);
    rest %= size;
    return `${count} ${unit}`;
  }).join(" ");
}

function mebibytes(bytes) {
  return `${(bytes / 1048576).toFixed(bytes < 10485760 ? 2 : 1)} MiB`;
}

// What was agreed

byId("ask").addEventListener("click", async () => {
  try {
    const facts = await (await fetch("negotiated")).json();
    for (const place of document.querySelectorAll("[data-fact]")) {
      const value = facts[place.dataset.fact];
      place.textContent = Array.isArray(value) ? value.join(", ") || "none" : value ?? "no TLS";
    }
    show("asked", `As of ${clockTime(Date.now() / 1000)}.`);
  } catch {
    show("asked", "The server did not answer.");
  }
});

// Events

let events = null;

function listen() {
  events = new EventSource("events");
  events.onmessage = (message) => {
    const now = JSON.parse(message.data);
    show("clock", clockTime(now.time));
    byId("clock").dateTime = new Date(now.time * 1000).toISOString();
    show("open", now.open);
    show("served", now.served);
    show("tabs", now.tabs);
    show("uptime", duration(now.uptime));
    show("events-carrier", now.protocol);
    state("events-state", "live");
    blow();
  };
  events.onerror = () => state("events-state", "connecting");
}

// Screen readers announce a status when it is set, so it is set only when it changes.
function state(id, text) {
  if (byId(id).textContent !== text) show(id, text);
}

function blow() {
  const sound = byId("sound");
  sound.classList.remove("blown");
  sound.getBoundingClientRect(); // Without a layout in between, the animation would not start anew.
  sound.classList.add("blown");
}

byId("pause").addEventListener("click", () => {
  const paused = events !== null;
  if (paused) {
    events.close();
    events = null;
    state("events-state", "paused");
  } else {
    listen();
  }
  byId("pause").setAttribute("aria-pressed", String(paused));
});

listen();

// Chat

const log = byId("log");
let socket = null;
let retrySeconds = 1;
let myName = sessionStorage.getItem("name") || "";

function addLine(...parts) {
  const line = document.createElement("p");
  line.append(...parts);
  const following = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(line);
  while (log.childElementCount > MAX_LOG_LINES) log.firstElementChild.remove();
  if (following) log.scrollTop = log.scrollHeight;
  return line;
}

function addNotice(text) {
  addLine(text).className = "notice";
}

function addSaid({ name, text, time }) {
  const who = document.createElement("b");
  who.append(element("bdi", name));
  const line = addLine(element("time", clockTime(time)), who, element("bdi", text));
  if (name === myName) line.className = "mine";
}

function callMe(name) {
  myName = name;
  byId("name").value = name;
  sessionStorage.setItem("name", name);
}

const chatEvents = {
  welcome({ name, carrier, history }) {
    callMe(name);
    show("chat-carrier", `WebSocket over ${carrier}`);
    log.replaceChildren();
    history.forEach(addSaid);
    addNotice(`You are ${name}.`);
  },
  say: addSaid,
  join: ({ name }) => addNotice(`${name} has come.`),
  leave: ({ name }) => addNotice(`${name} has left.`),
  rename({ before, name }) {
    if (before === myName) callMe(name);
    addNotice(`${before} is now ${name}.`);
  },
  missed: ({ count }) => addNotice(`${count} lines were lost: this tab was too slow.`),
};

function connect() {
  state("chat-state", "connecting");
  const url = new URL(`chat?name=${encodeURIComponent(myName)}`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  socket = new WebSocket(url);
  socket.onopen = () => {
    retrySeconds = 1;
    state("chat-state", "connected");
  };
  socket.onmessage = (message) => {
    const said = JSON.parse(message.data);
    chatEvents[said.kind](said);
    if (said.people) show("people", said.people.join(", "));
  };
  socket.onclose = ({ code, reason }) => {
    state("chat-state", `closed (${code}${reason ? `: ${reason}` : ""})`);
    setTimeout(connect, retrySeconds * 1000);
    retrySeconds = Math.min(retrySeconds * 2, LONGEST_RETRY_SECONDS);
  };
}

function tell(line) {
  if (socket.readyState !== WebSocket.OPEN) return false;
  socket.send(line);
  return true;
}

byId("say").addEventListener("submit", (event) => {
  event.preventDefault();
  if (tell(byId("line").value)) byId("line").value = "";
});

byId("name").addEventListener("change", () => tell(`/name ${byId("name").value}`));

connect();

// Transfers

function resultLine(id, ...parts) {
  byId(id).replaceChildren(...parts);
}

function speed(bytes, seconds) {
  return `${mebibytes(bytes)} in ${seconds.toFixed(2)} s (${mebibytes(bytes / Math.max(seconds, 0.001))}/s)`;
}

// Shows a transfer as busy until `done` settles; the cancel button calls `cancel`.
async function busy(kind, cancel, done) {
  const submit = byId(kind).querySelector("button:not(.cancel)");
  const cancelButton = byId(`${kind}-cancel`);
  submit.disabled = true;
  cancelButton.hidden = false;
  cancelButton.onclick = cancel;
  try {
    resultLine(`${kind}-result`, ...await done);
  } catch (error) {
    byId(`${kind}-progress`).value = 0;
    resultLine(`${kind}-result`, error.name === "AbortError" ? "Cancelled." : `Failed: ${error.message}`);
  }
  submit.disabled = false;
  cancelButton.hidden = true;
}

function randomBytes() {
  const part = crypto.getRandomValues(new Uint8Array(65536));
  return new Blob(Array(RANDOM_BYTES / part.length).fill(part));
}

async function ownDigest(blob) {
  if (!crypto.subtle || blob.size > MAX_HASHED_BYTES) return null; // subtle: secure origins and localhost only.
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// fetch() does not report the progress of an upload, so this is an XMLHttpRequest.
function send(request, blob) {
  return new Promise((resolve, reject) => {
    request.open("POST", "digest");
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => { byId("upload-progress").value = loaded / total; };
    request.onload = () => request.status === 200 ? resolve(request.response) : reject(new Error(`status ${request.status}`));
    request.onerror = () => reject(new Error("the connection was lost"));
    request.onabort = () => reject(new DOMException("", "AbortError"));
    request.send(blob);
  });
}

async function upload(request) {
  const blob = byId("file").files[0] ?? randomBytes();
  byId("upload-progress").value = 0;
  resultLine("upload-result", "Sending …");
  const answer = await send(request, blob);
  byId("upload-progress").value = 1;
  const own = await ownDigest(blob);
  const match = own === null ? "" : own === answer.sha256 ? "The browser's own digest is the same." : "The browser's own digest differs!";
  return [
    element("b", speed(answer.bytes, answer.seconds)), ` over ${answer.protocol}. SHA\u2011256:`,
    element("code", answer.sha256), match,
  ];
}

byId("upload").addEventListener("submit", (event) => {
  event.preventDefault();
  const request = new XMLHttpRequest();
  busy("upload", () => request.abort(), upload(request));
});

async function download(signal) {
  const started = performance.now();
  const response = await fetch(`download?mebibytes=${byId("size").value}`, { signal });
  if (!response.ok) throw new Error(`status ${response.status}`);
  const total = Number(response.headers.get("content-length"));
  const reader = response.body.getReader();
  resultLine("download-result", "Receiving …");
  let count = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    count += value.length;
    byId("download-progress").value = count / total;
  }
  return [element("b", speed(count, (performance.now() - started) / 1000)), "."];
}

byId("download").addEventListener("submit", (event) => {
  event.preventDefault();
  const controller = new AbortController();
  busy("download", () => controller.abort(), download(controller.signal));
});
