// Mixing styles: a slider for each head; what is above zero paints together.

import { $, complain, element } from "./dom.js";
import { onListChange } from "./heads.js";
import { onHeadChange, partsOf, setHead, sharesOf, work } from "./paint.js";

const MOST = 8;
let sliding = false; // a change that comes from here is not put back into the sliders

function rows() {
  return [...$("mix-rows").querySelectorAll("input")];
}

/** One row for each head that has a name. */
function list(heads) {
  const kept = new Map(rows().map((input) => [input.dataset.head, input.value]));
  const named = heads.filter((head) => head.kind !== "style");
  $("open-mix").hidden = named.length < 2;
  $("mix-rows").replaceChildren(...named.map((head, index) => {
    const id = `mix-${index}`;
    const input = element("input", { type: "range", id, min: 0, max: 100, step: 5, value: 0, "data-head": head.id });
    input.value = kept.get(head.id) ?? 0;
    input.addEventListener("input", () => slide(input));
    return element(
      "div",
      { class: "field" },
      element("label", { for: id }, head.name),
      element("output", { for: id }),
      input,
    );
  }));
  showShares();
}

function slide(input) {
  const used = rows().filter((one) => Number(one.value) > 0);
  if (used.length > MOST) {
    input.value = 0;
    complain({ message: `At most ${MOST} styles can be mixed`, hint: "move another slider to zero first" });
    return showShares();
  }
  showShares();
  if (!used.length) return undefined; // the painting stays until a style is chosen
  sliding = true;
  setHead(wanted(), { delay: 160 });
  sliding = false;
  return undefined;
}

/** What the sliders say: a mix, a head, or nothing. */
function wanted() {
  const used = rows().filter((one) => Number(one.value) > 0);
  if (used.length < 2) return used[0]?.dataset.head ?? "";
  return `mix:${used.map((one) => `${one.dataset.head}=${one.value}`).join(",")}`;
}

/** Say the shares; those of a head that was chosen elsewhere may lie between the sliders' steps. */
function showShares(head = wanted()) {
  const shares = sharesOf(head);
  for (const one of rows()) {
    one.parentElement.querySelector("output").value = `${shares.get(one.dataset.head) ?? 0} %`;
    one.style.setProperty("--filled", `${one.value}%`);
  }
}

/** Put a head that was chosen elsewhere into the sliders. */
function follow(head) {
  if (sliding) return;
  const parts = partsOf(head);
  const most = Math.max(0, ...parts.values());
  for (const one of rows()) {
    const weight = parts.get(one.dataset.head) ?? 0;
    one.value = parts.size > 1 ? weight : weight && (100 * weight) / most;
  }
  showShares(head);
  if (parts.size > 1) toggle(true);
}

function toggle(open) {
  $("mix").hidden = !open;
  $("open-mix").setAttribute("aria-expanded", String(open));
}

export function start() {
  onListChange((heads) => {
    list(heads);
    follow(work.head);
  });
  onHeadChange(follow);
  $("open-mix").addEventListener("click", () => toggle($("mix").hidden));
}
