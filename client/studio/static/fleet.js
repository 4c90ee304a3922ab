// Joining a fleet, taking part in it, leaving it. easel does that in a process of its own; this page only asks for it.

import { follow, post, remove, sentence } from "./api.js";
import { $, announce, button, complain, confirmed, element, guarded, tell } from "./dom.js";

const WHAT = [
  "A fleet improves the common hand of its painters together. Your photos, pictures and heads stay here. What leaves " +
    "this computer are changes of the shared weights, and the ledger on this page counts what they may give away.",
  "You need the address and a one-time code from whoever runs the fleet.",
];

/** Return the elements that tell about the fleet; `again` loads the page anew. */
export function fleet({ fleet: known, participations }, again) {
  if (known.joined) return member(known, again);
  const none = "Painting and learning heads need none.";
  const told = known.taking_part || known.set_up
    ? "This device is set up to train with others, but has joined no fleet: joining did not finish, or it was set up by hand."
    : participations
      ? "This device trains with a fleet no more."
      : "This device takes part in no fleet.";
  return [element("p", {}, `${told} ${none}`), form(known, again)];
}

function state(now, note) {
  if (!now) return "Joined, not taking part now";
  return note && !note.startsWith("taking part") ? "Taking part as soon as it can" : "Taking part";
}

function member({ server, name, taking_part: now, note, problem, photos, art, folder }, again) {
  const lines = problem
    ? [element("strong", {}, sentence(problem.message)), element("p", {}, sentence(problem.hint))]
    : [
        element("strong", {}, state(now, note)),
        element("p", {}, `Fleet: ${server}. It knows this device as “${name}”.`),
        note && note !== "taking part" ? element("p", { class: "told" }, sentence(note)) : null,
        photos ? element("p", { class: "told" }, `Trains on photos in ${photos} and pictures in ${art}.`) : null,
      ];
  const part = button(now ? "Stop taking part" : "Take part while the studio is open", () => takePart(!now, again), {
    id: "fleet-part",
    class: now ? "" : "primary",
  });
  const go = button("Leave the fleet", () => leave(again), { id: "fleet-leave", class: "quiet danger" });
  const box = { class: problem ? "verdict bad" : "verdict", id: "fleet" };
  const more = ["To take part without the studio, let ", element("code", {}, "easel join"), " run. Settings: "];
  return [
    element("div", box, ...lines.filter(Boolean)),
    element("div", { class: "row" }, ...(problem ? [] : [part]), go),
    element("p", { class: "told" }, ...more, element("code", {}, folder), "."),
  ];
}

function field(id, label, attributes, note = "") {
  const input = element("input", { id, autocomplete: "off", spellcheck: "false", autocapitalize: "off", ...attributes });
  const words = note ? element("p", { class: "told", id: `${id}-note` }, note) : null;
  if (note) input.setAttribute("aria-describedby", `${id}-note`);
  return element("div", { class: "field" }, element("label", { for: id }, label), input, ...(words ? [words] : []));
}

function form({ photos, art }, again) {
  const fields = element(
    "form",
    { class: "fleet-form", id: "fleet-form", novalidate: true },
    ...WHAT.map((line) => element("p", {}, line)),
    field("fleet-server", "Address", { placeholder: "fleet.example.org:39300" }),
    field("fleet-code", "One-time code", {}),
    field("fleet-photos", "Folder of photos to learn on", { placeholder: "~/Pictures/photos", value: photos ?? "" }),
    field("fleet-art", "Folder of pictures in your taste", { placeholder: "~/Pictures/art", value: art ?? "" }),
    field(
      "fleet-epsilon",
      "Privacy budget (epsilon)",
      { type: "number", min: 0.1, max: 100, step: "any", value: 8, inputmode: "decimal" },
      "The most that this device ever gives away. Less is more private; it can be lowered later, never raised.",
    ),
    element("p", { class: "wrong", id: "fleet-wrong", role: "alert", hidden: true }),
    element("button", { class: "primary", id: "fleet-join" }, "Join"),
  );
  fields.addEventListener("submit", (event) => {
    event.preventDefault();
    join(again);
  });
  const open = element("details", { id: "fleet-open" }, element("summary", {}, "Join a fleet"), fields);
  return open;
}

async function join(again) {
  const values = { max_epsilon: Number($("fleet-epsilon").value) };
  for (const key of ["server", "code", "photos", "art"]) values[key] = $(`fleet-${key}`).value.trim();
  const wrong = $("fleet-wrong");
  wrong.hidden = true;
  $("fleet-join").disabled = true;
  $("fleet-join").textContent = "Joining…";
  try {
    await follow(await post("/api/fleet", values));
    await again();
    tell("Joined. Nothing is sent until you take part.");
    announce("Joined");
    $("fleet-part").focus();
  } catch (error) {
    if (!wrong.isConnected) return complain(error);
    wrong.textContent = error.hint ? `${error.message}. ${sentence(error.hint)}.` : `${error.message}.`;
    wrong.hidden = false;
    $("fleet-join").disabled = false;
    $("fleet-join").textContent = "Join";
  }
  return undefined;
}

const takePart = guarded(async (on, again) => {
  const pressed = $("fleet-part");
  pressed.disabled = true;
  pressed.textContent = on ? "Starting…" : "Stopping…";
  try {
    await follow(await post("/api/fleet/part", { on }));
    announce(on ? "Taking part" : "Not taking part any more");
  } finally {
    await again();
    $("fleet-part")?.focus();
  }
});

const leave = guarded(async (again) => {
  const text =
    "This device stops taking part, the fleet is asked to forget it, and its key is deleted. The privacy ledger stays. " +
    "To come back you need a new code.";
  if (!(await confirmed("Leave the fleet?", text, "Leave"))) return;
  $("fleet-leave").disabled = true;
  $("fleet-leave").textContent = "Leaving…";
  try {
    const job = await follow(await remove("/api/fleet"));
    tell("You have left the fleet.");
    for (const warning of job.result.warnings ?? []) {
      complain({ message: sentence(warning), hint: "its key is deleted here, so nobody can use it" });
    }
  } finally {
    await again();
    $("main").focus();
  }
});
