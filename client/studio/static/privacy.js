// What has left this computer, what is stored on it, and whether it takes part in a fleet: as it is, in plain words.

import { get, sentence } from "./api.js";
import { $, bytes, element, guarded, several } from "./dom.js";
import { clear } from "./history.js";

export const load = guarded(async (after) => {
  const facts = await get("/api/privacy");
  const never = !facts.problem && facts.participations === 0;
  $("privacy").replaceChildren(
    element("h1", { id: "privacy-title" }, "Privacy"),
    facts.problem ? trouble(facts.problem) : summary(facts, never),
    element("h2", {}, "Training together"),
    element("p", {}, fleet(facts)),
    ...(facts.rounds?.length ? [rounds(facts.rounds)] : []),
    element("h2", {}, "What the studio stores"),
    element("p", {}, `${bytes(facts.stored.bytes)} of at most ${bytes(facts.stored.cap_bytes)}: photos you opened, styles and paintings, readable by you alone, in `, element("code", {}, facts.stored.folder), "."),
    element("button", { type: "button", class: "danger", onclick: async () => { if (await clear()) { await after(); await load(after); } } }, "Delete all of it"),
    element("h2", {}, "How this page works"),
    element("ul", {},
      element("li", {}, "It is served by easel on this computer, to this computer only. Other pages cannot use it, and it loads nothing from anywhere else."),
      element("li", {}, "A painting carries its settings and nothing of your photo's: no place, no time, no camera."),
      element("li", {}, "A head holds small pieces of the pictures it was made from. Hand it out only to people who may see them."),
      element("li", {}, "There is no telemetry.")),
  );
});

function summary(facts, never) {
  if (never) {
    return element("div", { class: "verdict good" }, element("strong", {}, "Nothing has left this device."), element("p", {}, facts.sentences[0] ?? ""), ...facts.sentences.slice(1).map((line) => element("p", {}, line)));
  }
  return element("div", { class: "verdict" }, ...facts.sentences.map((line) => element("p", {}, sentence(line))));
}

function trouble(problem) {
  return element("div", { class: "verdict bad" }, element("strong", {}, problem.message), element("p", {}, problem.hint));
}

function fleet(facts) {
  if (facts.fleet.joined) return `This device is set up to train together with others; its settings and its ledger are in ${facts.fleet.folder}.`;
  if (facts.participations) return "This device is not set up to train together with others any more. Painting and learning heads need no fleet.";
  return "This device takes part in no fleet. Painting and learning heads need none.";
}

function rounds(list) {
  const row = (round) => element("tr", {}, ...[round.when, round.run, String(round.round), round.bytes ? bytes(round.bytes) : "nothing", round.state].map((cell) => element("td", {}, cell)));
  return element("details", {},
    element("summary", {}, `${several(list.length, "round")}, newest first`),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Rounds" },
      element("table", {},
        element("thead", {}, element("tr", {}, ...["When (UTC)", "Run", "Round", "Sent", "State"].map((head) => element("th", { scope: "col" }, head)))),
        element("tbody", {}, ...list.map(row)))));
}
