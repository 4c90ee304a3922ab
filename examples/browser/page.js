// The page: a photo in, a painting out. The work is done in painter.js, so that the page stays alive.
const LONGEST = 2048; // pixels; WebAssembly has 4 GB of memory at most
const byId = (id) => document.getElementById(id);
const painter = new Worker("painter.js", { type: "module" });
let started = 0;
let counting = 0;

function say(text) {
  byId("state").textContent = text;
}

async function showPhoto() {
  const [file] = byId("photo").files;
  if (!file) return;
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
    const canvas = byId("before");
    canvas.width = Math.max(16, Math.round(bitmap.width * scale));
    canvas.height = Math.max(16, Math.round(bitmap.height * scale));
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    say("Ready to paint.");
  } catch {
    say("This browser cannot read that picture.");
  }
}

async function paint(event) {
  event.preventDefault();
  const canvas = byId("before");
  if (canvas.width < 16) return say("Choose a photo first.");
  byId("paint").disabled = true;
  byId("save").hidden = true;
  say("Painting: this takes a while.");
  started = performance.now();
  counting = setInterval(() => {
    byId("seconds").textContent = `${Math.round((performance.now() - started) / 1000)} s`;
  }, 1000);
  const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const [model] = byId("model").files;
  const options = { strength: Number(byId("strength").value), seed: Number(byId("seed").value) };
  painter.postMessage({ model: model ?? null, data, width, height, ...options });
}

painter.onmessage = ({ data: { error, data, width, height } }) => {
  byId("paint").disabled = false;
  clearInterval(counting);
  byId("seconds").textContent = "";
  if (error) return say(error);
  const canvas = byId("after");
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  canvas.toBlob((blob) => {
    URL.revokeObjectURL(byId("save").href);
    byId("save").href = URL.createObjectURL(blob);
    byId("save").hidden = false;
    say(`Painted in ${((performance.now() - started) / 1000).toFixed(1)} s.`);
  });
};
painter.onerror = () => say("The painter could not be started: has `npm install` been run in this folder?");
byId("photo").addEventListener("change", showPhoto);
byId("form").addEventListener("submit", paint);
