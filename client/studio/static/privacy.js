// What has left this computer and what is stored on it: as it is, in plain words.

import { get, sentence } from "./api.js";
import { $, button, bytes, element, guarded, several } from "./dom.js";
import { fleet } from "./fleet.js";
import { clear } from "./history.js";

const HOW = [
  "It is served by easel on this computer, to this computer only. Other pages cannot use it, and it loads nothing " +
    "from anywhere else.",
  "A painting carries its settings and nothing of your photo's: no place, no time, no camera.",
  "A head holds small pieces of the pictures it was made from. Hand it out only to people who may see them.",
  "There is no telemetry.",
];

export const load = guarded(async (after) => {
  const facts = await get("/api/privacy");
  $("privacy").replaceChildren(
    element("h1", { id: "privacy-title" }, "Privacy"),
    verdict(facts),
    element("h2", {}, "Training together"),
    ...fleet(facts, () => load(after)),
    ...(facts.rounds.length ? [rounds(facts.rounds)] : []),
    element("h2", {}, "What the studio stores"),
    stored(facts.stored),
    button("Delete all of it", () => clearAll(after), { class: "danger" }),
    element("h2", {}, "How this page works"),
    element("ul", {}, ...HOW.map((line) => element("li", {}, line))),
  );
});

async function clearAll(after) {
  if (!(await clear())) return;
  await after();
  await load(after);
}

function verdict({ problem, participations, complete, sentences }) {
  const lines = (sentences ?? []).map((line) => element("p", {}, sentence(line)));
  if (problem) {
    const hint = element("p", {}, sentence(problem.hint));
    return element("div", { class: "verdict bad" }, element("strong", {}, sentence(problem.message)), hint);
  }
  if (participations || !complete) return element("div", { class: "verdict" }, ...lines);
  const good = element("strong", {}, "Nothing has left this device.");
  return element("div", { class: "verdict good" }, good, element("p", {}, "It has never taken part in training together."));
}

function stored({ bytes: used, cap_bytes: most, folder }) {
  const what = `${bytes(used)} of at most ${bytes(most)}: photos you opened, styles and paintings, readable by you alone, in `;
  return element("p", {}, what, element("code", {}, folder), ".");
}

function rounds(list) {
  const heads = ["When (UTC)", "Run", "Round", "Sent", "State"].map((head) => element("th", { scope: "col" }, head));
  const rows = list.map((round) => {
    const cells = [round.when, round.run, round.round, round.bytes ? bytes(round.bytes) : "nothing", round.state];
    return element("tr", {}, ...cells.map((cell) => element("td", {}, String(cell))));
  });
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
  const frame = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Rounds" }, table);
  return element("details", {}, element("summary", {}, `${several(list.length, "round")}, newest first`), frame);
}
