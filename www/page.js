/** What the page shows, and what a visitor can do with it: the only code that touches the document. */

const find = (id) => document.getElementById(id);
const elements = {
  caption: find("caption"),
  empty: find("empty"),
  error: find("error"),
  facts: find("facts"),
  fallback: find("fallback"),
  file: find("file"),
  preview: find("preview"),
  progress: find("progress"),
  samples: find("samples"),
  status: find("status"),
  stop: find("stop"),
  truth: find("truth"),
  words: find("words"),
};

const PHASES = {
  device: "Device opened.",
  load: "Reading weights…",
  selfTest: "Testing the GPU…",
  ready: "Ready.",
};

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const milliseconds = (ms) => `${Math.round(ms)} ms`;

function status(text) {
  elements.status.textContent = text;
}

/** A name and its value in the list of this run; `value` in a data attribute is for scripts. */
function fact(name, text, value = text) {
  let entry = elements.facts.querySelector(`dd[data-name="${name}"]`);
  if (entry === null) {
    const title = document.createElement("dt");
    title.textContent = name;
    entry = document.createElement("dd");
    entry.dataset.name = name;
    elements.facts.append(title, entry);
  }
  entry.textContent = text;
  entry.dataset.value = value;
}

/** The word lists of a manifest that a visitor can make use of. */
const WORD_LISTS = { nouns: "Things", colours: "Colours", places: "Places in the picture", relations: "Relations" };

function showWords(knows) {
  for (const [kind, name] of Object.entries(WORD_LISTS)) {
    const words = knows[kind] ?? [];
    if (words.length === 0) continue;
    const title = document.createElement("dt");
    title.textContent = `${name} (${words.length})`;
    const list = document.createElement("dd");
    list.textContent = words.join(", ");
    elements.words.append(title, list);
  }
}

function showAdapter({ vendor, architecture, device, description, isFallbackAdapter }) {
  const name = [vendor, architecture, device, description].filter(Boolean).join(" ");
  return isFallbackAdapter ? `${name} (software)` : name;
}

function showProgress(step) {
  if (step.phase === "download") {
    elements.progress.value = step.total === 0 ? 1 : step.loaded / step.total;
    status(`Downloading the model: ${megabytes(step.loaded)} of ${megabytes(step.total)}`);
  } else if (step.phase === "compile") {
    elements.progress.value = step.done / step.total;
    status(`Compiling for this device: ${step.done} of ${step.total}`);
  } else {
    if (step.phase !== "device") elements.progress.removeAttribute("value");
    status(PHASES[step.phase]);
  }
}

const precision = ({ vision, text }) => (vision === text ? vision : `${vision} and ${text}`);

function showReady({ info }) {
  elements.progress.hidden = true;
  fact("device", info.device === "webgpu" ? "WebGPU" : "CPU", info.device);
  fact("adapter", showAdapter(info.adapter));
  fact("model", `${info.model.id}, ${precision(info.model.quantisation)}, ${megabytes(info.model.bytes)}, ${info.model.licence}`, info.model.id);
  fact("load", milliseconds(info.ms.load), info.ms.load);
  fact("compile", milliseconds(info.ms.compile), info.ms.compile);
  fact("version", info.version);
  elements.fallback.textContent = info.fallbackReason === undefined ? "" : `Computing on the CPU: ${info.fallbackReason}.`;
  find(info.model.id === "tiny" ? "knows-tiny" : "knows-other").hidden = false;
  showWords(info.knows ?? {});
  if (document.body.dataset.state !== "busy") showIdle("Ready.");
}

function showIdle(text) {
  document.body.dataset.state = "idle";
  elements.progress.hidden = true;
  elements.stop.disabled = true;
  elements.caption.ariaBusy = "false";
  status(text);
}

function showBusy(text) {
  document.body.dataset.state = "busy";
  elements.stop.disabled = false;
  elements.caption.ariaBusy = "true";
  status(text);
}

function showImage(address, truth) {
  if (elements.preview.src.startsWith("blob:")) URL.revokeObjectURL(elements.preview.src);
  elements.preview.src = address;
  elements.preview.hidden = false;
  elements.empty.hidden = true;
  elements.caption.textContent = "";
  elements.error.textContent = "";
  elements.truth.textContent = "";
  elements.truth.dataset.truth = truth;
  for (const button of elements.samples.querySelectorAll("button")) {
    button.ariaPressed = String(button.dataset.address === address);
  }
  showBusy("Waiting for the model…");
}

function showText(text) {
  elements.caption.textContent = text;
}

function showResult({ text, ms }) {
  elements.caption.textContent = text;
  const { truth } = elements.truth.dataset;
  elements.truth.textContent = truth === "" ? "" : `The scene was composed as: ${truth}`;
  fact("encode", milliseconds(ms.encode), ms.encode);
  fact("caption", milliseconds(ms.caption), ms.caption);
  showIdle(`Done: image ${milliseconds(ms.encode)}, caption ${milliseconds(ms.caption)}.`);
  document.body.dataset.state = "done";
}

function showError(error) {
  const code = document.createElement("code");
  code.textContent = typeof error?.code === "string" ? error.code : (error?.name ?? "error");
  elements.error.replaceChildren(code, `: ${error?.message ?? error}`);
}

function addSample(index, { address, truth }, onChoose) {
  const picture = document.createElement("img");
  picture.src = address;
  picture.width = 96;
  picture.height = 96;
  picture.alt = `Sample ${index + 1}: ${truth}`;
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.address = address;
  button.ariaPressed = "false";
  button.append(picture);
  button.addEventListener("click", onChoose);
  const item = document.createElement("li");
  item.append(button);
  elements.samples.append(item);
}

function onStop(handler) {
  elements.stop.addEventListener("click", handler);
}

/** Calls `handler` with the files that are chosen, dropped or pasted. */
function onFiles(handler) {
  elements.file.addEventListener("change", () => {
    const files = [...elements.file.files];
    // The same file can be chosen again.
    elements.file.value = "";
    if (files.length > 0) handler(files);
  });
  addEventListener("paste", (event) => {
    const { files } = event.clipboardData;
    if (files.length > 0) handler([...files]);
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) document.body.classList.remove("dropping");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    handler([...event.dataTransfer.files]);
  });
}

// A file that is no image has no picture to show; the caption call says what is wrong with it.
elements.preview.addEventListener("error", () => {
  elements.preview.hidden = true;
  elements.empty.hidden = false;
});

export const page = {
  addSample, onFiles, onStop, showBusy, showError, showIdle, showImage, showProgress, showReady, showResult, showText,
};
