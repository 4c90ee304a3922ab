// Small helpers: elements, messages, pictures that are let go of again.

import { picture } from "./api.js";

export const $ = (id) => document.getElementById(id);

/** Make an element: element("li", { class: "card", onclick }, "text", child). */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Make a button: button("Delete", drop, { class: "quiet" }). */
export function button(content, onclick, attributes = {}) {
  return element("button", { type: "button", onclick, ...attributes }, content);
}

/** Say something to people who cannot see the page. */
export function announce(text) {
  $("status").textContent = text;
}

/** Show what went wrong, and what to do about it, until it is closed. */
export function complain(error) {
  if (error?.name === "AbortError") return;
  const close = element("button", { type: "button", class: "close", "aria-label": "Close this message" }, "×");
  const hint = error.hint ? element("span", { class: "hint" }, sentenceOf(error.hint)) : null;
  const words = element("div", {}, element("strong", {}, error.message ?? String(error)), hint);
  const toast = element("div", { class: "toast" }, words, close);
  close.addEventListener("click", () => toast.remove());
  const same = [...$("toasts").children].find((other) => other.textContent === toast.textContent);
  same?.remove();
  $("toasts").append(toast);
  if (!error.hint) setTimeout(() => toast.remove(), 12000);
}

/** Take away what was complained about before: it is past, and covers what can be done next. */
export function settle() {
  for (const toast of document.querySelectorAll(".toast:not(.good)")) toast.remove();
}

/** Say something pleasant for a moment. */
export function tell(text) {
  const toast = element("div", { class: "toast good" }, element("div", {}, text));
  $("toasts").append(toast);
  setTimeout(() => toast.remove(), 4000);
}

/** Keep messages in the dialog that is open: all outside it is behind it, cannot be clicked and is not read out. */
export function newsFollowDialogs() {
  const move = () => ([...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body).append($("news"));
  for (const change of ["toggle", "close"]) {
    document.addEventListener(change, (event) => event.target.nodeName === "DIALOG" && move(), true);
  }
}

function sentenceOf(text) {
  return text[0].toUpperCase() + text.slice(1);
}

/** Run an event's work; what goes wrong is shown. */
export function guarded(work) {
  return async (...given) => {
    try {
      return await work(...given);
    } catch (error) {
      complain(error);
      return undefined;
    }
  };
}

const held = new WeakMap();

/** Show a blob in an image and let go of the one before. */
export async function show(image, blob) {
  const address = URL.createObjectURL(blob);
  const old = held.get(image);
  held.set(image, address);
  image.src = address;
  try {
    await image.decode();
  } catch {
    // replaced by a newer one meanwhile
  }
  if (old) URL.revokeObjectURL(old);
}

async function showFrom(image, path) {
  if (!image.isConnected) return;
  try {
    await show(image, await picture(path));
    image.classList.add("ready");
  } catch {
    image.classList.add("missing");
  }
}

/** Fetch a small picture once the image is on the page. */
export function showSoon(image, path) {
  queueMicrotask(() => showFrom(image, path));
}

let last = Promise.resolve();

/** The same for pictures that the studio must paint first: one after the other. */
export function showInTurn(image, path) {
  queueMicrotask(() => {
    last = last.then(() => showFrom(image, path));
  });
}

export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

/** Ask before something is gone for good. Returns "" for no, "yes", or "also" where `also` was offered and ticked. */
export function confirmed(title, text, yes, also = "") {
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = yes;
  $("confirm-more").hidden = !also;
  $("confirm-more").querySelector("span").textContent = also;
  $("confirm-also").checked = false;
  const dialog = $("confirm-dialog");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    const answer = () => (dialog.returnValue !== "yes" ? "" : $("confirm-also").checked ? "also" : "yes");
    dialog.addEventListener("close", () => resolve(answer()), { once: true });
  });
}

export function bytes(count) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (count >= size) return `${(count / size).toFixed(count / size < 10 ? 1 : 0)} ${unit}`;
  }
  return `${count} bytes`;
}

export function several(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}
