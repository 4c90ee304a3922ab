// Choosing between candidates: four paintings, one is liked best, the next four are closer to the owner's taste.

import { follow, picture, post, remove } from "./api.js";
import { $, announce, complain, element, guarded, several, show, tell } from "./dom.js";
import { all, baseOf, reload } from "./heads.js";
import { bend, isMix, isStyle, onHeadChange, options, setHead, setOptions, work } from "./paint.js";

let head = ""; // whose taste it is
let shown = [];
let job = null;
let facts = null;
let turn = 0;

const open = guarded(async () => {
  head = baseOf(work.head);
  const others = all().filter((one) => one.kind !== "style" && one.id !== head);
  $("choose-partner").replaceChildren(new Option("No other style", ""), ...others.map((one) => new Option(one.name, one.id)));
  $("choose-mix").hidden = !others.length;
  $("choose-dialog").showModal();
  await round();
});

/** Show four more. `asked` may name the head to mix in; without it is the one of before. */
const round = guarded(async (asked = {}) => {
  const mine = ++turn;
  stop();
  shown = [];
  $("choose-told").textContent = "Painting four ways…";
  $("candidates").setAttribute("aria-busy", "true");
  const cards = [0, 1, 2, 3].map((number) => element(
    "button",
    { type: "button", disabled: true, "aria-label": `Number ${number + 1}`, onclick: () => like(number) },
    element("img", { alt: "" }),
    element("span", { class: "number", "aria-hidden": "true" }, String(number + 1)),
  ));
  $("candidates").style.setProperty("--ratio", work.photo.width / work.photo.height);
  $("candidates").classList.toggle("tall", work.photo.width < work.photo.height);
  $("candidates").replaceChildren(...cards);
  const started = await post("/api/candidates", { photo: work.photo.id, head, options: options(), ...asked });
  if (mine !== turn) return remove(`/api/jobs/${started.id}`);
  job = started.id;
  let fetched = 0;
  const advance = async (now) => {
    while (fetched < now.pictures && mine === turn) {
      const number = fetched;
      fetched += 1;
      await show(cards[number].querySelector("img"), await picture(`/api/jobs/${now.id}/picture?number=${number}`));
    }
  };
  const done = await follow(started, advance);
  if (!done || mine !== turn) return;
  await advance(done);
  shown = done.result.shown;
  facts = done.result;
  for (const card of cards) card.disabled = false;
  $("candidates").removeAttribute("aria-busy");
  explain();
  if ($("choose-dialog").open && document.activeElement !== $("choose-partner")) cards[0].focus();
  announce("Four candidates. Press 1 to 4 for the one you like best.");
  return undefined;
});

function explain() {
  const { answers, confidence } = facts;
  const odds = `${Math.round(confidence * 100)} %`;
  const sure = answers < 3 ? "" : ` easel is ${odds} sure that you like its suggestion better than the head as it was made.`;
  $("choose-told").textContent = answers
    ? `${several(answers, "choice")} so far.${sure}`
    : "Pick one by clicking, or with the keys 1 to 4. After some choices easel knows what you like in this head.";
  $("choose-partner").value = facts.partner;
  $("choose-partner").disabled = facts.settled;
  $("choose-settled").hidden = !facts.settled;
  $("choose-use").disabled = !answers;
  $("choose-forget").hidden = !answers;
}

const like = guarded(async (number) => {
  if (!shown[number]) return;
  const before = shown;
  shown = [];
  try {
    facts = await post("/api/choices", { head, shown: before, order: [number], partner: facts.partner });
  } catch (error) {
    complain(error); // another tab mixed in another head: the next four are with that one
  }
  await round();
});

const use = guarded(async () => {
  const best = (await post(`/api/choices/${encodeURIComponent(head)}`)).best;
  await reload();
  $("choose-dialog").close();
  setOptions({ ...options(), ...best.options });
  setHead(best.head, { paint: false });
  bend(best.look);
  tell(`${head} now starts from what you like. Every control is still yours to change.`);
});

const forget = guarded(async () => {
  await remove(`/api/choices/${encodeURIComponent(head)}`);
  await reload();
  if (work.head !== head) setHead(head); // it was a mix that came from the choices
  announce("Choices forgotten");
  await round();
});

function stop() {
  if (job) remove(`/api/jobs/${job}`).catch(() => {});
  job = null;
}

export function start() {
  onHeadChange((now) => {
    const base = baseOf(now);
    $("open-choose").hidden = !base || isStyle(base) || isMix(base);
  });
  $("open-choose").addEventListener("click", () => open());
  $("choose-skip").addEventListener("click", () => round());
  $("choose-partner").addEventListener("change", () => round({ partner: $("choose-partner").value }));
  $("choose-use").addEventListener("click", use);
  $("choose-forget").addEventListener("click", forget);
  $("choose-dialog").addEventListener("keydown", (event) => {
    if (event.target !== $("choose-partner") && ["1", "2", "3", "4"].includes(event.key)) like(Number(event.key) - 1);
  });
  $("choose-dialog").addEventListener("close", () => {
    turn += 1;
    stop();
  });
}
