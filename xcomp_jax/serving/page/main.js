// Starts the page: model, videos, history, and the form that asks.

import { requestJson } from "./api.js";
import { toggleCompare } from "./compare.js";
import { confirmed } from "./dialogs.js";
import { announce, byId, element } from "./dom.js";
import { dropAll, readThreads } from "./history.js";
import { startTheme } from "./theme.js";
import { askNew, restoreThread, startThreads } from "./threads.js";
import { currentVideo, startVideos } from "./videos.js";
import { isReady } from "./watch_progress.js";

let examples = [];
const waiting = [];

/** Shows a problem above everything; an empty message hides it. */
function showProblem(message) {
  byId("banner").textContent = message;
  byId("banner").hidden = !message;
}

function videoChanged(video) {
  showProblem("");
  byId("question").disabled = !video || video.state === "failed";
  byId("send").disabled = byId("question").disabled;
  const found = examples.find(
    (example) => example.video === video?.id || example.video === video?.name,
  );
  byId("samples").replaceChildren(...(found?.questions ?? []).map(sample));
  if (!isReady(video)) return;
  for (const pending of waiting.filter((other) => other.video.id === video.id)) {
    waiting.splice(waiting.indexOf(pending), 1);
    askNew(video, pending.question);
  }
}

function sample(question) {
  const ask = () => submit(question);
  return element("li", {}, element("button.chip", { type: "button", onclick: ask }, question));
}

/** Asks at once, or as soon as the video has been watched. */
function submit(question) {
  const video = currentVideo();
  if (!video || !question) return;
  byId("empty").hidden = true;
  if (isReady(video)) return askNew(video, question);
  waiting.push({ video, question });
  announce("Your question will be asked when the video has been watched");
  showProblem("Your question will be asked as soon as the video has been watched.");
}

function startForm() {
  const input = byId("question");
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    submit(input.value.trim());
    input.value = "";
    fit(input);
  });
  input.addEventListener("input", () => fit(input));
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId("ask").requestSubmit();
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input, textarea")) return;
    event.preventDefault();
    input.focus();
  });
}

/** Grows the field with its text. */
function fit(input) {
  input.style.height = "auto";
  input.style.height = `${Math.min(160, input.scrollHeight + 2)}px`;
}

function startHistory() {
  const threads = readThreads();
  byId("empty").hidden = threads.length > 0;
  threads.forEach(restoreThread);
  byId("forget").addEventListener("click", async () => {
    const text =
      "All questions and answers in this browser are deleted. Videos stay on the server.";
    if (!(await confirmed("Delete the history?", text))) return;
    dropAll();
    byId("threads").replaceChildren();
    toggleCompare(null);
    byId("empty").hidden = false;
    announce("History deleted");
  });
}

async function start() {
  startTheme();
  startForm();
  videoChanged(null);
  try {
    const [model] = (await requestJson("/v1/models")).data;
    examples = model.xcomp?.examples ?? [];
    byId("model").textContent = model.id;
    byId("note").textContent = model.xcomp?.note ?? "";
    byId("note").hidden = !model.xcomp?.note;
    startThreads({ model: model.id, oncompare: toggleCompare });
    await startVideos({
      onchange: videoChanged,
      onfailure: showProblem,
      uploadLimit: model.xcomp?.upload_limit_bytes,
    });
    startHistory();
  } catch (error) {
    showProblem(error.message);
  }
}

start();
