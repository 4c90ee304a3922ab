// Which stroke is from which picture: point at the painting, or move with the arrow keys.

import { follow, picture, post } from "./api.js";
import { $, announce, element, guarded } from "./dom.js";
import { look, options, work } from "./paint.js";

const NOWHERE = 255;
let sources = [];
let pixels = null; // of the map: picture, down, across
let painting = null;
let at = { x: 0.5, y: 0.5 };

function blobOf(text) {
  return new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type: "image/jpeg" });
}

async function read(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

const open = guarded(async () => {
  $("explain-dialog").showModal();
  $("sources").replaceChildren();
  $("map-cross").hidden = true;
  $("map-colors").checked = false;
  $("explain-told").textContent = "Following the strokes…";
  pixels = null;
  const asked = { photo: work.photo.id, head: work.head, options: options(), look: look() };
  const job = await follow(await post("/api/explain", asked));
  const facts = job.result;
  [pixels, painting] = await Promise.all([
    read(await picture(`/api/jobs/${job.id}/picture`)),
    createImageBitmap(blobOf(facts.painting)),
  ]);
  $("map-canvas").width = facts.width;
  $("map-canvas").height = facts.height;
  $("map").style.setProperty("--ratio", facts.width / facts.height);
  await listSources(facts);
  draw();
  $("explain-told").textContent = facts.note || "Point at the painting, or move with the arrow keys.";
  $("map-colors").disabled = Boolean(facts.note);
  if (!facts.note) $("map").focus();
});

async function listSources(facts) {
  sources = facts.sources;
  const order = [...sources].sort((one, other) => other.share - one.share);
  const items = order.map((source) => {
    const image = element("img", { alt: "" });
    if (source.picture) image.src = URL.createObjectURL(blobOf(source.picture));
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    const mark = element("span", { class: "spot", hidden: true });
    const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.background = `rgb(${source.color.join(" ")})`;
    const share = element("b", {}, `${Math.round(source.share * 100)} %`);
    return element(
      "li",
      { "data-number": source.number },
      element("span", { class: "source" }, image, mark),
      element("span", {}, swatch, `Picture ${source.number + 1}`, element("br"), share, " of the strokes"),
    );
  });
  $("sources").replaceChildren(...items);
}

function draw() {
  const canvas = $("map-canvas");
  const context = canvas.getContext("2d");
  context.drawImage(painting, 0, 0, canvas.width, canvas.height);
  if (!$("map-colors").checked) return;
  const shown = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < shown.data.length; i += 4) {
    const color = sources[pixels.data[i]]?.color ?? [128, 128, 128];
    const light = 0.35 + (0.65 * (shown.data[i] + shown.data[i + 1] + shown.data[i + 2])) / 765;
    for (let c = 0; c < 3; c += 1) shown.data[i + c] = color[c] * light * 0.75 + shown.data[i + c] * 0.25;
  }
  context.putImageData(shown, 0, 0);
}

function point(x, y, { speak = false } = {}) {
  if (!pixels) return;
  at = { x: Math.min(0.999, Math.max(0, x)), y: Math.min(0.999, Math.max(0, y)) };
  const index = 4 * (Math.floor(at.y * pixels.height) * pixels.width + Math.floor(at.x * pixels.width));
  const [number, down, across] = pixels.data.slice(index, index + 3);
  const cross = $("map-cross");
  cross.hidden = false;
  cross.style.left = `${at.x * 100}%`;
  cross.style.top = `${at.y * 100}%`;
  for (const item of $("sources").children) {
    const here = Number(item.dataset.number) === number;
    item.classList.toggle("here", here);
    const spot = item.querySelector(".spot");
    spot.hidden = !here;
    spot.style.left = `${(across / 255) * 100}%`;
    spot.style.top = `${(down / 255) * 100}%`;
  }
  if (number === NOWHERE) return;
  const text = `This stroke is from picture ${number + 1}, ${where(down / 255, across / 255)}.`;
  $("explain-told").textContent = text;
  if (speak) announce(text);
}

function where(down, across) {
  const rows = ["top", "middle", "bottom"];
  const columns = ["left", "middle", "right"];
  const row = rows[Math.min(2, Math.floor(down * 3))];
  const column = columns[Math.min(2, Math.floor(across * 3))];
  return row === column ? "in the middle" : `${row} ${column}`;
}

function key(event) {
  const step = event.shiftKey ? 0.1 : 0.02;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  const move = moves[event.key];
  if (!move) return;
  event.preventDefault();
  point(at.x + move[0], at.y + move[1], { speak: true });
}

export function start() {
  $("open-explain").addEventListener("click", open);
  $("map-colors").addEventListener("change", () => pixels && draw());
  $("map").addEventListener("keydown", key);
  $("map").addEventListener("pointermove", (event) => {
    const box = $("map").getBoundingClientRect();
    point((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
  $("map").addEventListener("pointerdown", (event) => {
    const box = $("map").getBoundingClientRect();
    point((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height, { speak: true });
  });
}
