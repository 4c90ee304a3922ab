// Starts the page: the key, the pages, dropping and pasting.

import { get, onTrouble, unlock } from "./api.js";
import { $, button, complain, element, guarded, newsFollowDialogs, showSoon } from "./dom.js";
import * as choose from "./choose.js";
import * as explain from "./explain.js";
import * as heads from "./heads.js";
import * as mix from "./mix.js";
import * as history from "./history.js";
import * as paint from "./paint.js";
import * as privacy from "./privacy.js";

const PAGES = ["paint", "history", "privacy"];
let locked = false;

function lock(why) {
  locked = true;
  document.body.dataset.locked = "yes";
  if (why) $("locked-why").textContent = why;
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  for (const name of [...PAGES, "locked"]) $(`page-${name}`).hidden = name !== "locked";
  document.title = "Locked · easel studio";
}

function turn({ focus = true } = {}) {
  if (locked) return;
  const wanted = location.hash.slice(1);
  const page = PAGES.includes(wanted) ? wanted : "paint";
  for (const name of PAGES) $(`page-${name}`).hidden = name !== page;
  for (const link of document.querySelectorAll("nav [data-page]")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${page[0].toUpperCase()}${page.slice(1)} · easel studio`;
  if (page === "history") history.load();
  if (page === "privacy") privacy.load(heads.reload);
  if (focus) $("main").focus({ preventScroll: true });
  $("toasts").replaceChildren();
  window.scrollTo(0, 0);
}

function showSamples(count) {
  const buttons = [...Array(Math.min(count, 5)).keys()].map((number) => {
    const image = element("img", { alt: "" });
    showSoon(image, `/api/samples/${number}`);
    const label = { "aria-label": `Paint sample photo ${number + 1}` };
    return element("li", {}, button(image, () => paint.takeSample(number), label));
  });
  $("samples").replaceChildren(...buttons);
}

function picturesOf(transfer) {
  return [...(transfer?.files ?? [])];
}

/** Files that were dropped or pasted: pictures of a style where one is being made, a photo otherwise. */
function receive(files, target) {
  if (!files.length || locked) return;
  if ($("style-dialog").open) heads.addPictures(files);
  else if (target?.closest?.("[data-drop=style]")) heads.openDialog(files);
  else if (files.length > 1) heads.openDialog(files);
  else {
    location.hash = "#paint";
    paint.take(files[0]);
  }
}

function catchFiles() {
  let depth = 0;
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", (event) => {
    if (!holdsFiles(event)) return;
    depth += 1;
    $("dropping").hidden = $("style-dialog").open;
  });
  addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) $("dropping").hidden = true;
  });
  addEventListener("dragover", (event) => {
    if (holdsFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    depth = 0;
    $("dropping").hidden = true;
    receive(picturesOf(event.dataTransfer), event.target);
  });
  addEventListener("paste", (event) => receive(picturesOf(event.clipboardData), document.activeElement));
  $("choose-photo").addEventListener("click", () => $("photo-file").click());
  $("photo-file").addEventListener("change", () => {
    if ($("photo-file").files.length) paint.take($("photo-file").files[0]);
    $("photo-file").value = "";
  });
}

async function main() {
  onTrouble({ locked: () => lock(), closed: () => {} });
  catchFiles();
  newsFollowDialogs();
  $("skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("main").focus();
  });
  try {
    if (!(await unlock())) return lock();
  } catch (error) {
    return error.status === 401 ? lock() : complain(error);
  }
  addEventListener("hashchange", () => turn());
  turn({ focus: false });
  return guarded(async () => {
    const state = await get("/api/state");
    paint.start();
    heads.start(state.limits);
    mix.start();
    history.start(heads.reload);
    explain.start();
    choose.start();
    showSamples(state.samples);
    heads.list(state.heads);
    await paint.restore(state.heads);
    document.documentElement.dataset.ready = "yes";
  })();
}

main();
