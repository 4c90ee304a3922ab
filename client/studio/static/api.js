// Talks to the studio on this computer, and to nobody else.

const STORE = "easel-key";

/** A refusal of the studio: a message, and what to do about it. */
export class StudioError extends Error {
  constructor(message, hint, status) {
    super(message);
    this.hint = hint ?? "";
    this.status = status;
  }
}

const listeners = { locked: () => {}, closed: () => {} };

/** Say what to do when the key is not (or no longer) the right one, and when the studio does not answer. */
export function onTrouble(calls) {
  Object.assign(listeners, calls);
}

/** Take the key, or a ticket for it, out of the address; it then lies in this origin's storage. */
export async function unlock() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("key") || given.has("ticket")) {
    history.replaceState(null, "", location.pathname + "#paint");
    let key = given.get("key");
    if (!key) {
      key = (await post("/api/session", { ticket: given.get("ticket") })).key;
    }
    localStorage.setItem(STORE, key);
  }
  return Boolean(localStorage.getItem(STORE));
}

export async function send(path, init = {}) {
  const headers = { ...init.headers, "X-Easel-Key": localStorage.getItem(STORE) ?? "" };
  let answer;
  try {
    answer = await fetch(path, { ...init, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    listeners.closed();
    throw new StudioError("The studio does not answer", "start it again with: easel studio", 0);
  }
  if (answer.ok) return answer;
  let told = {};
  try {
    told = (await answer.json()).error ?? {};
  } catch {
    // not ours: the status says enough
  }
  if (answer.status === 401) listeners.locked();
  throw new StudioError(sentence(told.message ?? `the studio answered ${answer.status}`), told.hint, answer.status);
}

export function sentence(text) {
  return text ? text[0].toUpperCase() + text.slice(1) : "";
}

export async function get(path) {
  return (await send(path)).json();
}

export async function post(path, value = {}) {
  return (await send(path, { method: "POST", body: JSON.stringify(value) })).json();
}

export async function remove(path) {
  return (await send(path, { method: "DELETE" })).json();
}

/** Hand a picture file to the studio; it answers with id, name, width and height. */
export async function upload(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new StudioError("The picture cannot be read", "if it is a folder, drop the pictures in it instead", 0);
  }
  const headers = { "X-Easel-Name": encodeURIComponent(file.name ?? "") };
  return (await send("/api/photos", { method: "POST", body: file, headers })).json();
}

export async function picture(path) {
  return (await send(path)).blob();
}

/** Follow a job to its end; `advance` is told of every step. Resolves to null if a newer one took its place. */
export async function follow(job, advance = () => {}) {
  let now = job;
  while (!["done", "failed", "stopped"].includes(now.state)) {
    now = await get(`/api/jobs/${now.id}?since=${now.version}`);
    await advance(now);
  }
  if (now.state === "failed") throw new StudioError(sentence(now.error.message), now.error.hint, 400);
  return now.state === "done" ? now : null;
}
