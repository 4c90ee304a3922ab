// The history: paintings with their settings, to go on from, download, keep or delete.

import { get, picture, post, remove } from "./api.js";
import { $, announce, bytes, confirmed, element, guarded, save, several, showSoon } from "./dom.js";
import { nameOf } from "./heads.js";
import { close, open, setHead, setLook, setOptions, work } from "./paint.js";

const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export const load = guarded(async () => {
  const { paintings, stored } = await get("/api/paintings");
  $("paintings").replaceChildren(...paintings.map(card));
  $("history-empty").hidden = paintings.length > 0;
  $("clear-history").hidden = paintings.length === 0 && stored.bytes === 0;
  showStored(paintings.length, stored);
});

function showStored(count, stored) {
  $("history-told").textContent = count
    ? `${several(count, "painting")}, ${bytes(stored.bytes)} of ${bytes(stored.cap_bytes)}. The oldest make room for new ones, unless you keep them.`
    : "";
}

function describe({ options, look }) {
  const said = [];
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
  const image = element("img", { alt: `${painting.title}, painted with ${name}` });
  showSoon(image, `/api/paintings/${painting.id}/view`);
  const again = guarded(async () => {
    const photo = await get(`/api/photos/${painting.photo}`);
    setOptions(painting.options);
    setLook(painting.look);
    setHead(painting.head, { paint: false });
    location.hash = "#paint";
    await open(photo);
  });
  const open_ = element("button", { type: "button", class: "picture", disabled: !painting.photo_there, "aria-label": `Go on with ${painting.title}, ${name}`, onclick: again }, image);
  const keep = element("button", { type: "button", class: "quiet small", "aria-pressed": String(painting.kept) }, painting.kept ? "★ Kept" : "☆ Keep");
  keep.addEventListener("click", guarded(async () => {
    const kept = (await post(`/api/paintings/${painting.id}`, { kept: keep.getAttribute("aria-pressed") !== "true" })).kept;
    keep.setAttribute("aria-pressed", String(kept));
    keep.textContent = kept ? "★ Kept" : "☆ Keep";
    announce(kept ? "Kept" : "No longer kept");
  }));
  const item = element(
    "li",
    { class: "painting" },
    open_,
    element("div", { class: "about" }, element("strong", {}, painting.title), element("span", { class: "chip" }, name)),
    element("p", {}, `${describe(painting)}`, element("br"), `${painting.width} × ${painting.height}, ${DATE.format(painting.created * 1000)}`),
    element(
      "div",
      { class: "tools" },
      element("button", { type: "button", class: "small", onclick: again, disabled: !painting.photo_there }, "Go on"),
      element("button", { type: "button", class: "quiet small", onclick: guarded(() => download(painting)) }, "Download"),
      keep,
      element("button", { type: "button", class: "quiet small danger", "aria-label": `Delete ${painting.title}, ${name}`, onclick: () => drop(painting, item) }, "Delete"),
    ),
  );
  return item;
}

async function download(painting) {
  const head = painting.head.startsWith("style:") ? "style" : painting.head;
  save(await picture(`/api/paintings/${painting.id}/file`), `${painting.title}-${head}.png`);
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
  const text = "All photos, styles and paintings of the studio are deleted from this computer for good. Your heads stay, and so do the originals of your photos.";
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
