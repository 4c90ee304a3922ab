// The workplace: one photo, one style, controls; small paintings at once, the full one when the hand rests.

import { follow, get, picture, post, remove, upload } from "./api.js";
import { $, announce, complain, guarded, save, settle, show, tell } from "./dom.js";

const TAB = crypto.randomUUID();
const SESSION = "easel-workplace";
const PREVIEW_MS = 160;
const FULL_MS = 900;
const SHOWN_PIXELS = 12e6; // larger paintings are shown by their preview

const STRAIGHT = { brush: 1, roughness: 1, hand: 1 };

export const work = { photo: null, head: "", painting: null, look: { ...STRAIGHT } };
let timer = 0;
let fullTimer = 0;
let turn = 0; // grows with every change: what belongs to an older one is dropped
let fullJob = null;
let order = null; // of the preview that is shown
const headCalls = [];

export function onHeadChange(call) {
  headCalls.push(call);
}

export function options() {
  return {
    strength: Number($("strength").value) / 100,
    detail: Number($("detail").value) / 100,
    keep_color: $("keep-color").checked,
    size_px: $("size").value ? Number($("size").value) : null,
    seed: seed(),
  };
}

function seed() {
  const value = Math.trunc(Number($("seed").value));
  return Number.isFinite(value) ? Math.min(2147483647, Math.max(0, value)) : 0;
}

export function setOptions(given) {
  $("strength").value = Math.round(given.strength * 100);
  $("detail").value = Math.round(given.detail * 100);
  $("keep-color").checked = given.keep_color;
  $("seed").value = given.seed;
  const size = given.size_px ?? "";
  if (size && ![...$("size").options].some((option) => Number(option.value) === size)) {
    $("size").add(new Option(`${size} px`, size));
  }
  $("size").value = size;
  showValues();
}

export function look() {
  return { ...work.look, brush: Number($("brush").value) / 100 };
}

export function setLook(given) {
  work.look = { ...STRAIGHT, ...given };
  $("brush").value = Math.round(work.look.brush * 100);
  showValues();
}

/** Bend the head as the owner is thought to like it, and paint. */
export function bend(given) {
  setLook(given);
  repaint(0);
}

function showValues() {
  for (const name of ["strength", "detail", "brush"]) {
    const input = $(name);
    $(`${name}-out`).value = `${input.value} %`;
    input.style.setProperty("--filled", `${((input.value - input.min) / (input.max - input.min)) * 100}%`);
  }
}

function asked() {
  return { photo: work.photo.id, head: work.head, options: options(), look: look() };
}

/** Take a file in and paint it. */
export const take = guarded(async (file) => {
  busy(true);
  announce("Reading the photo");
  try {
    await open(await received(file));
  } finally {
    busy(false);
  }
});

async function received(file) {
  try {
    return await upload(file);
  } catch (error) {
    error.message = error.message.replace(/^The picture /, `${file.name || "What was pasted"} `);
    throw error;
  }
}

export const takeSample = guarded(async (number) => open(await post(`/api/samples/${number}`)));

/** Put a photo that the studio has on the easel. */
export async function open(photo) {
  const view = await picture(`/api/photos/${photo.id}/view`);
  settle();
  if (photo.more) tell(`${photo.name} holds several pictures; one of them is painted.`);
  work.photo = photo;
  $("compare").style.setProperty("--ratio", photo.width / photo.height);
  $("after").hidden = true;
  $("slider").disabled = true;
  $("compare").classList.remove("painted");
  $("welcome").hidden = true;
  $("workplace").hidden = false;
  await show($("before"), view);
  $("before").alt = `The photo ${photo.name}`;
  announce(`Photo ${photo.name}, ${photo.width} by ${photo.height} pixels`);
  if (work.head) repaint(0);
  else told("Choose a style.");
  remember();
}

export function close() {
  invalidate();
  work.photo = null;
  $("workplace").hidden = true;
  $("welcome").hidden = false;
  busy(false);
  remember();
  $("choose-photo").focus();
}

export const isStyle = (head) => head.startsWith("style:");
export const isMix = (head) => head.startsWith("mix:");

/** Names and weights of the heads of a mix, one of 1 for a single head, none for a style. */
export function partsOf(head) {
  if (!head || isStyle(head)) return new Map();
  if (!isMix(head)) return new Map([[head, 1]]);
  return new Map(head.slice(4).split(",").map((part) => [part.split("=")[0], Number(part.split("=")[1])]));
}

/** Names and shares of the heads of a mix in whole percent; they add up to 100. */
export function sharesOf(head) {
  const parts = [...partsOf(head)];
  const all = parts.reduce((sum, [, weight]) => sum + weight, 0);
  const exact = parts.map(([name, weight]) => [name, (100 * weight) / all]);
  const shares = new Map(exact.map(([name, share]) => [name, Math.floor(share)]));
  let left = 100 - [...shares.values()].reduce((sum, share) => sum + share, 0);
  for (const [name] of exact.sort((one, other) => (other[1] % 1) - (one[1] % 1))) {
    if (left-- > 0) shares.set(name, shares.get(name) + 1);
  }
  return shares;
}

/** What a painting with this head is called on the disk. */
export function fileName(title, head) {
  return `${title}-${isStyle(head) ? "style" : [...partsOf(head).keys()].join("+").slice(0, 80)}.png`;
}

export function setHead(head, { paint = true, delay = 0 } = {}) {
  work.head = head;
  for (const call of headCalls) call(head);
  remember();
  if (work.photo && head && paint) repaint(delay);
}

function invalidate() {
  turn += 1;
  clearTimeout(timer);
  clearTimeout(fullTimer);
  work.painting = null;
  $("download").disabled = true;
  $("open-explain").disabled = true;
  $("full").hidden = true;
  order = null;
  drop();
}

function drop() {
  if (fullJob) remove(`/api/jobs/${fullJob}`).catch(() => {});
  fullJob = null;
}

/** Paint again: soon in small, and in full once nothing has changed for a while. */
export function repaint(delay = PREVIEW_MS) {
  invalidate();
  remember();
  if (!work.photo || !work.head) return;
  const mine = turn;
  timer = setTimeout(() => preview(mine), delay);
}

async function preview(mine) {
  busy(true);
  told("Painting…");
  try {
    const now = { ...asked(), tab: TAB };
    const job = await follow(await post("/api/preview", now));
    if (!job || mine !== turn) return;
    const blob = await picture(`/api/jobs/${job.id}/picture`);
    if (mine !== turn) return;
    await present(blob);
    told("A first look; the full size follows.");
    $("open-explain").disabled = isMix(work.head);
    order = now;
    fullTimer = setTimeout(full, FULL_MS);
  } catch (error) {
    if (mine !== turn) return;
    busy(false);
    told("");
    complain(error);
  }
}

async function full() {
  const mine = turn;
  busy(true);
  told("Painting in full size…");
  fullButton("Cancel");
  try {
    const started = await post("/api/paint", order);
    if (mine !== turn) return remove(`/api/jobs/${started.id}`);
    fullJob = started.id;
    const advance = ({ progress }) => {
      if (mine === turn && progress) told(`Painting in full size… ${Math.round(progress * 100)} %`);
    };
    const job = await follow(started, advance);
    if (!job || mine !== turn) return;
    fullJob = null;
    $("full").hidden = true;
    work.painting = job.result;
    const { id, width, height, seconds } = job.result;
    if (width * height <= SHOWN_PIXELS) {
      const blob = await picture(`/api/paintings/${id}/file`);
      if (mine !== turn) return;
      await present(blob);
    }
    $("download").disabled = false;
    const time = seconds < 10 ? seconds.toFixed(1) : Math.round(seconds);
    told(`${width} × ${height}, painted in ${time} s. It is in your history.`);
    announce(`Painted, ${width} by ${height} pixels. Ready to download.`);
  } catch (error) {
    if (mine !== turn) return;
    fullJob = null;
    told("This is a first look.");
    fullButton("Paint in full size");
    complain(error);
  } finally {
    if (mine === turn) busy(false);
  }
}

function fullButton(text) {
  $("full").textContent = text;
  $("full").hidden = false;
}

/** Give up the full painting that is on its way, or ask for it again. */
function toggleFull() {
  if ($("full").textContent !== "Cancel") return full();
  turn += 1;
  drop();
  busy(false);
  told("Stopped. This is a first look.");
  announce("Stopped");
  fullButton("Paint in full size");
}

async function present(blob) {
  const first = $("after").hidden;
  await show($("after"), blob);
  $("after").hidden = false;
  $("slider").disabled = false;
  $("compare").classList.add("painted");
  if (first) announce("A first look is there");
}

function told(text) {
  $("told").textContent = text;
}

function busy(on) {
  $("busy").classList.toggle("on", on);
  $("stage").setAttribute("aria-busy", String(on));
}

function slide() {
  $("compare").style.setProperty("--at", `${$("slider").value}%`);
  const share = 100 - Number($("slider").value);
  $("slider").setAttribute("aria-valuetext", `${share} percent painting`);
}

export const download = guarded(async () => {
  const { id, title, head } = work.painting;
  const blob = await picture(`/api/paintings/${id}/file`);
  save(blob, fileName(title, head));
  announce("Saved to your downloads");
});

/** Remember what is on the easel of this tab, so that a reload finds it again. */
function remember() {
  const kept = { photo: work.photo?.id ?? null, head: work.head, options: options(), look: look() };
  sessionStorage.setItem(SESSION, JSON.stringify(kept));
}

export async function restore(heads) {
  let kept = {};
  try {
    kept = JSON.parse(sessionStorage.getItem(SESSION) ?? "{}");
  } catch {
    // written by something else: start afresh
  }
  if (kept.options) setOptions(kept.options);
  if (kept.look) setLook(kept.look);
  const head = heads.find((one) => one.id === kept.head) ?? heads.find((one) => one.kind !== "style");
  const usual = kept.options ? null : head?.usual;
  if (usual) {
    setOptions({ ...options(), ...usual.options });
    setLook(usual.look);
  }
  const mixed = isMix(kept.head ?? "") && [...partsOf(kept.head).keys()].every((name) => heads.some((one) => one.id === name));
  setHead(mixed ? kept.head : (usual?.head ?? head?.id ?? ""), { paint: false });
  if (kept.photo) {
    try {
      await open(await get(`/api/photos/${kept.photo}`));
    } catch {
      sessionStorage.removeItem(SESSION); // the photo was deleted
    }
  }
}

export function start() {
  for (const name of ["strength", "detail", "brush"]) {
    $(name).addEventListener("input", () => {
      showValues();
      repaint();
    });
  }
  for (const name of ["keep-color", "size", "seed"]) $(name).addEventListener("change", () => repaint());
  $("slider").addEventListener("input", slide);
  $("shuffle").addEventListener("click", () => {
    $("seed").value = 1 + Math.floor(Math.random() * 9999);
    repaint(0);
  });
  $("reset").addEventListener("click", () => {
    setOptions({ strength: 1, detail: 0.5, keep_color: false, size_px: null, seed: 0 });
    bend({});
  });
  $("download").addEventListener("click", download);
  $("full").addEventListener("click", toggleFull);
  $("another").addEventListener("click", close);
  showValues();
  slide();
}
