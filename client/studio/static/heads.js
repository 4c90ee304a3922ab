// Styles: the heads there are, pictures to paint with right away, and learning a head of one's own.

import { follow, get, post, remove, upload } from "./api.js";
import { $, announce, button, complain, confirmed, element, guarded, several, showInTurn, showSoon, tell } from "./dom.js";
import { isMix, isStyle, onHeadChange, options, partsOf, setHead, setLook, setOptions, sharesOf, work } from "./paint.js";

const PLAIN = { options: { strength: 1, detail: 0.5, keep_color: false }, look: {} };

let heads = [];
let chosen = []; // pictures in the dialog: id, name
let most = 10;
const listCalls = [];

export function onListChange(call) {
  listCalls.push(call);
}

export function all() {
  return heads;
}

export function nameOf(id) {
  const head = heads.find((one) => one.id === id);
  if (head?.kind === "style") return `Your ${several(head.pictures.length, "picture")}`;
  if (isStyle(id)) return "Your pictures";
  if (isMix(id)) return [...partsOf(id).keys()].join(" + ");
  return id;
}

/** Show the heads as one group of choices: arrow keys move, each move paints. */
export function list(given) {
  heads = given;
  for (const call of listCalls) call(given);
  const before = new Map([...$("heads").querySelectorAll("[role=radio]")].map((card) => [card.dataset.id, card]));
  const cards = heads.map((head) => {
    const old = before.get(head.id);
    return old ? old.parentElement : card(head);
  });
  const own = element(
    "button",
    { type: "button", class: "card add", id: "open-style", "data-drop": "style", onclick: () => openDialog() },
    element("span", { class: "plus", "aria-hidden": "true" }, "+"),
    element("span", { class: "name" }, "Your own"),
  );
  $("heads").replaceChildren(...cards, own);
  mark(work.head);
}

function card(head) {
  const image = element("img", { alt: "", class: "thumb" });
  const name = nameOf(head.id);
  const choice = element(
    "button",
    { type: "button", class: "card", role: "radio", "data-id": head.id, onclick: () => pick(head.id) },
    image,
    element("span", { class: "name" }, name),
  );
  const holder = element("div", { class: "holder" }, choice);
  if (head.kind !== "shipped") {
    const label = `Delete ${name}`;
    holder.append(button("×", () => forget(head), { class: "remove", "aria-label": label, title: label }));
  }
  showInTurn(image, `/api/heads/${encodeURIComponent(head.id)}/view`);
  return holder;
}

/** The head whose usual painting a mix is; anything else is itself. */
export function baseOf(head) {
  return (isMix(head) && heads.find((one) => one.usual?.head === head)?.id) || head;
}

/** Choose a head by hand: its usual settings come with it, if its owner has any, and go with it. */
function pick(id) {
  const usual = (head) => heads.find((one) => one.id === head)?.usual;
  if (id !== work.head && (usual(id) || usual(baseOf(work.head)))) {
    const { options: painted, look } = usual(id) ?? PLAIN;
    setOptions({ ...options(), ...painted });
    setLook(look);
  }
  setHead(usual(id)?.head ?? id);
}

function mark(id) {
  const cards = [...$("heads").querySelectorAll("[role=radio]")];
  const shares = isMix(id) ? sharesOf(id) : new Map();
  const present = cards.some((one) => one.dataset.id === id);
  cards.forEach((one, index) => {
    const on = one.dataset.id === id;
    one.setAttribute("aria-checked", String(on));
    if (shares.has(one.dataset.id)) one.dataset.share = `${shares.get(one.dataset.id)} %`;
    else delete one.dataset.share;
    one.tabIndex = on || (!present && index === 0) ? 0 : -1;
    if (on) one.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

function move(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const cards = [...$("heads").querySelectorAll("[role=radio]")];
  const at = cards.indexOf(event.target.closest("[role=radio]"));
  if (!step || at < 0) return;
  event.preventDefault();
  const next = cards[(at + step + cards.length) % cards.length];
  pick(next.dataset.id);
  next.focus();
}

const forget = guarded(async (head) => {
  const [what, text] = head.kind === "style"
    ? ["this style", "Its pictures on your disk stay where they are."]
    : [`the head ${head.name}`, "It cannot be brought back."];
  const { paintings } = await get("/api/paintings");
  const made = paintings.filter((one) => one.head === head.id || partsOf(one.head).has(head.id)).length;
  const also = made ? `Delete ${made === 1 ? "the painting" : `the ${made} paintings`} in the history made with it, too` : "";
  const answer = await confirmed(`Delete ${what}?`, text, "Delete", also);
  if (!answer) return;
  const path = `/api/heads/${encodeURIComponent(head.id)}${answer === "also" ? "?paintings" : ""}`;
  const left = (await remove(path)).heads;
  list(left);
  if (work.head === head.id || partsOf(work.head).has(head.id)) setHead(left.find((one) => one.kind === "shipped")?.id ?? "");
  $("open-style").focus();
  announce("Deleted");
});

export const reload = guarded(async () => list((await get("/api/heads")).heads));

// ---- the dialog: pictures of a style

export function openDialog(files = []) {
  if (!$("style-dialog").open) $("style-dialog").showModal();
  if (files.length) addPictures(files);
}

export const addPictures = guarded(async (files) => {
  const room = most - chosen.length;
  if (files.length > room) {
    const hint = `the first ${Math.max(0, room)} were taken`;
    complain({ message: `A style is made from at most ${most} pictures`, hint });
  }
  for (const file of [...files].slice(0, Math.max(0, room))) {
    try {
      const photo = await upload(file);
      if (!chosen.some((one) => one.id === photo.id)) chosen.push(photo);
    } catch (error) {
      complain({ message: error.message.replace(/^The picture /, `${file.name} `), hint: error.hint });
    }
    showChosen();
  }
  announce(`${several(chosen.length, "picture")} chosen`);
});

function showChosen() {
  $("style-pictures").replaceChildren(
    ...chosen.map((photo) => {
      const image = element("img", { alt: photo.name });
      showSoon(image, `/api/photos/${photo.id}/view?small`);
      const drop = () => {
        chosen = chosen.filter((one) => one.id !== photo.id);
        showChosen();
        $("choose-style").focus();
      };
      const label = { class: "remove", "aria-label": `Leave out ${photo.name}` };
      return element("li", {}, image, button("×", drop, label));
    }),
  );
  const none = chosen.length === 0;
  $("style-invite").hidden = !none;
  $("choose-style").textContent = none ? "Choose pictures" : "Add more";
  $("style-now").disabled = none;
  $("learn-start").disabled = none || !$("learn-name").value.trim();
  const these = { 0: "these", 1: "it" }[chosen.length] ?? `these ${chosen.length}`;
  $("style-now").textContent = `Paint with ${these} right away`;
}

const paintNow = guarded(async () => {
  const button = $("style-now");
  button.disabled = true;
  button.textContent = "Looking at the strokes…";
  try {
    const job = await follow(await post("/api/styles", { pictures: chosen.map((one) => one.id) }));
    await reload();
    $("style-dialog").close();
    chosen = [];
    setHead(job.result.head);
    announce("Style ready");
  } finally {
    showChosen();
  }
});

const learn = guarded(async (event) => {
  event.preventDefault();
  const name = $("learn-name").value.trim();
  if (!name || !chosen.length) return;
  const asked = {
    pictures: chosen.map((one) => one.id),
    name,
    seconds: Number($("learn-seconds").value),
    strokes: $("learn-strokes").value,
  };
  const started = await post("/api/heads", asked);
  $("style-dialog").close();
  chosen = [];
  $("learn-name").value = "";
  showChosen();
  await watch(started, name);
});

async function watch(started, name) {
  $("learning").hidden = false;
  $("learning-name").textContent = name;
  $("learning-stop").disabled = false;
  $("learning-stop").onclick = () => {
    $("learning-stop").disabled = true;
    remove(`/api/jobs/${started.id}`).catch(complain);
  };
  announce(`Learning ${name}`);
  let said = 0;
  const advance = (job) => {
    const percent = Math.round(job.progress * 100);
    if (job.progress) $("learning-bar").value = job.progress;
    else $("learning-bar").removeAttribute("value");
    $("learning-share").textContent = job.progress ? `practicing, ${percent} %` : job.note || "waiting";
    if (percent - said >= 25) {
      said = percent;
      announce(`Learning ${name}, ${percent} percent`);
    }
  };
  advance(started);
  try {
    const job = await follow(started, advance);
    if (!job) return;
    await reload();
    setHead(job.result.head);
    tell(`${job.result.head} is ready. It is yours, and stays on this computer.`);
    announce(`${job.result.head} is ready`);
  } finally {
    $("learning").hidden = true;
  }
}

export function start(limits) {
  most = limits.styles;
  onHeadChange(mark);
  $("heads").addEventListener("keydown", move);
  $("choose-style").addEventListener("click", () => $("style-files").click());
  $("style-files").addEventListener("change", () => {
    addPictures($("style-files").files);
    $("style-files").value = "";
  });
  $("learn-name").addEventListener("input", showChosen);
  $("style-now").addEventListener("click", paintNow);
  $("learn-form").addEventListener("submit", learn);
  showChosen();
}
