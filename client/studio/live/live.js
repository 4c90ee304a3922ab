// Asks for the newest painting, shows it, asks again.

import { StudioError, onTrouble, post, send, unlock } from "./api.js";

const find = (id) => document.getElementById(id);
const [picture, facts, pause, save, trouble] = ["picture", "facts", "pause", "save", "trouble"].map(find);
let shown = "";
let paused = false;

function fail(text) {
  trouble.textContent = text;
  trouble.hidden = false;
  picture.hidden = true;
  facts.textContent = "stopped";
}

function show(blob, headers) {
  const address = URL.createObjectURL(blob);
  picture.onload = () => {
    if (shown) URL.revokeObjectURL(shown);
    shown = address;
    save.href = address;
    save.hidden = false;
  };
  picture.src = address;
  picture.hidden = false;
  trouble.hidden = true;
  facts.textContent = `${headers.get("x-easel-size")} pixels, ${headers.get("x-easel-fps")} frames/s`;
}

async function follow() {
  let last = 0;
  for (;;) {
    const answer = await send(`/api/frame?after=${last}`);
    if (answer.status === 204) continue;
    last = Number(answer.headers.get("x-easel-number"));
    const blob = await answer.blob();
    if (!paused) show(blob, answer.headers);
  }
}

async function toggle() {
  paused = !paused;
  pause.textContent = paused ? "Go on" : "Pause";
  pause.setAttribute("aria-pressed", String(paused));
  if (paused) facts.textContent = "paused";
  await post("/api/pause", { paused });
}

onTrouble({ locked: () => {}, closed: () => {} });
pause.addEventListener("click", toggle);
document.addEventListener("keydown", (event) => {
  if (event.key === " " && event.target === document.body) {
    event.preventDefault();
    toggle();
  }
});

try {
  if (!(await unlock())) throw new StudioError("", "", 401);
  await follow();
} catch (error) {
  if (error.status === 401) fail("Open the address that easel live printed; it changes with every start.");
  else if (error.status === 0) fail("easel live has ended. Start it again to go on.");
  else fail([error.message, error.hint].filter(Boolean).join(": "));
}
