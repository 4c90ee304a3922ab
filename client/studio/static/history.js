// The history: paintings with their settings, to go on from, download, keep or delete.

import { get, picture, post, remove } from "./api.js";
import { $, announce, button, bytes, confirmed, element, guarded, save, several, showSoon } from "./dom.js";
import { nameOf } from "./heads.js";
import { close, fileName, isMix, open, setHead, setLook, setOptions, sharesOf, work } from "./paint.js";

const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export const load = guarded(async () => {
  const { paintings, stored } = await get("/api/paintings");
  $("paintings").replaceChildren(...paintings.map(card));
  $("history-empty").hidden = paintings.length > 0;
  $("clear-history").hidden = paintings.length === 0 && stored.bytes === 0;
  showStored(paintings.length, stored);
});

function showStored(count, stored) {
  const size = `${bytes(stored.bytes)} of ${bytes(stored.cap_bytes)}`;
  const rule = "The oldest make room for new ones, unless you keep them.";
  $("history-told").textContent = count ? `${several(count, "painting")}, ${size}. ${rule}` : "";
}

function describe({ head, options, look }) {
  const said = isMix(head) ? [...sharesOf(head)].map(([name, share]) => `${share} % ${name}`) : [];
  if (options.strength < 1) said.push(`strength ${Math.round(options.strength * 100)} %`);
  if (options.detail !== 0.5) said.push(`detail ${Math.round(options.detail * 100)} %`);
  if ((look.brush ?? 1) !== 1) said.push(`strokes ${Math.round(look.brush * 100)} %`);
  if ((look.roughness ?? 1) !== 1 || (look.hand ?? 1) !== 1) said.push("to your taste");
  if (options.keep_color) said.push("own colors");
  if (options.size_px) said.push(`${options.size_px} px`);
  if (options.seed) said.push(`variation ${options.seed}`);
  return said.join(", ") || "standard settings";
}

function card(painting) {
  const name = nameOf(painting.head);
  const title = `${painting.title}, ${name}`;
  const image = element("img", { alt: `${painting.title}, painted with ${name}` });
  showSoon(image, `/api/paintings/${painting.id}/view`);
  const again = guarded(() => goOn(painting));
  const disabled = !painting.photo_there;
  const item = element(
    "li",
    { class: "painting" },
    button(image, again, { class: "picture", disabled, "aria-label": `Go on with ${title}` }),
    element("div", { class: "about" }, element("strong", {}, painting.title), element("span", { class: "chip", title: name }, name)),
    element("p", {}, describe(painting), element("br"), size(painting)),
    element(
      "div",
      { class: "tools" },
      button("Go on", again, { class: "small", disabled }),
      button("Download", guarded(() => download(painting)), { class: "quiet small" }),
      keeper(painting),
      button("Delete", () => drop(painting, item), { class: "quiet small danger", "aria-label": `Delete ${title}` }),
    ),
  );
  return item;
}

function size(painting) {
  return `${painting.width} × ${painting.height}, ${DATE.format(painting.created * 1000)}`;
}

async function goOn(painting) {
  const photo = await get(`/api/photos/${painting.photo}`);
  setOptions(painting.options);
  setLook(painting.look);
  setHead(painting.head, { paint: false });
  location.hash = "#paint";
  await open(photo);
}

function keeper(painting) {
  const told = (kept) => (kept ? "★ Kept" : "☆ Keep");
  const toggle = guarded(async () => {
    const wanted = keep.getAttribute("aria-pressed") !== "true";
    const { kept } = await post(`/api/paintings/${painting.id}`, { kept: wanted });
    keep.setAttribute("aria-pressed", String(kept));
    keep.textContent = told(kept);
    announce(kept ? "Kept" : "No longer kept");
  });
  const keep = button(told(painting.kept), toggle, { class: "quiet small", "aria-pressed": String(painting.kept) });
  return keep;
}

async function download(painting) {
  save(await picture(`/api/paintings/${painting.id}/file`), fileName(painting.title, painting.head));
}

const drop = guarded(async (painting, item) => {
  if (!(await confirmed("Delete this painting?", "It is deleted from this computer for good.", "Delete"))) return;
  await remove(`/api/paintings/${painting.id}`);
  const next = item.nextElementSibling ?? item.previousElementSibling;
  item.remove();
  if (work.painting?.id === painting.id) close();
  (next?.querySelector("button") ?? $("main")).focus();
  announce("Deleted");
  if (!next) await load();
});

export const clear = guarded(async () => {
  const text =
    "All photos, styles and paintings of the studio are deleted from this computer for good. " +
    "Your heads stay, and so do the originals of your photos.";
  if (!(await confirmed("Delete everything?", text, "Delete everything"))) return false;
  await remove("/api/everything");
  if (work.photo) close();
  if (work.head.startsWith("style:")) setHead("");
  announce("Everything is deleted");
  return true;
});

export function start(after) {
  $("clear-history").addEventListener("click", async () => {
    if (await clear()) {
      await after();
      await load();
    }
  });
}
