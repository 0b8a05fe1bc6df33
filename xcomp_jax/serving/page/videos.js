// The list of videos, adding one, and the progress of watching.

import { requestJson } from "./api.js";
import { confirmed } from "./dialogs.js";
import { announce, byId, element } from "./dom.js";
import { amount, bytes, clock, duration, timeLeft } from "./format.js";
import { frameImage, refreshVideo, showVideo } from "./player.js";
import { uploadFile } from "./upload.js";

const POLL_MILLISECONDS = 600;
const UNFINISHED = new Set(["waiting", "reading", "watching"]);

let videos = [];
let current = null;
let upload = null;
let limit = Infinity;
let changed = () => {};
let failed = () => {};

export const currentVideo = () => current;
export const videoById = (id) => videos.find((video) => video.id === id) ?? null;
export const isReady = (video) => video?.state === "ready";

/** Fills the list. `onchange` is called with each newer state of the shown video. */
export async function startVideos({ onchange, onfailure, uploadLimit }) {
  changed = onchange;
  failed = onfailure;
  limit = uploadLimit ?? Infinity;
  if (limit < Infinity) byId("limit").textContent = `Drop a file or choose one, up to ${bytes(limit)}`;
  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) addFile(file);
  });
  byId("cancel").addEventListener("click", () => upload?.abort());
  listenForDrops();
  videos = (await requestJson("/v1/videos")).data;
  show(videos[0] ?? null);
  poll();
}

/** Selects a video. */
export function show(video) {
  current = video;
  showVideo(video);
  render();
  changed(current);
}

/** Uploads a file and has it watched. */
export async function addFile(file) {
  if (upload) return failed("One upload is in progress. Wait until it is done, or cancel it.");
  if (file.size > limit) return failed(`${file.name} has ${bytes(file.size)}; this server accepts files up to ${bytes(limit)}.`);
  upload = new AbortController();
  byId("cancel").hidden = false;
  announce(`Uploading ${file.name}`);
  try {
    const report = (share) => showProgress(share, `Uploading ${file.name} · ${Math.round(100 * share)} %`);
    report(0);
    const stored = await uploadFile(file, report, upload.signal);
    const video = await requestJson("/v1/videos", { json: { file_id: stored.id, name: file.name } });
    videos = [video, ...videos.filter((other) => other.id !== video.id)];
    show(video);
  } catch (error) {
    if (error.name !== "AbortError") failed(error.message);
  } finally {
    upload = null;
    byId("cancel").hidden = true;
    render();
  }
}

async function remove(video) {
  const file = video.file_id ? "and its file are deleted from" : "disappears from the list of";
  const text = `“${video.name}” ${file} the server. Your questions stay in this browser.`;
  if (!(await confirmed("Delete this video?", text))) return;
  try {
    const path = video.file_id ? `/v1/files/${video.file_id}` : `/v1/videos/${video.id}`;
    await requestJson(path, { method: "DELETE" });
    videos = videos.filter((other) => other.id !== video.id);
    if (current?.id === video.id) show(videos[0] ?? null);
    else render();
    byId("file").focus();
  } catch (error) {
    failed(error.message);
  }
}

/** Asks for the state of unfinished videos, again and again. */
async function poll() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
    for (const video of videos.filter((other) => UNFINISHED.has(other.state))) {
      try {
        replace(await requestJson(`/v1/videos/${video.id}`));
      } catch (error) {
        if (error.status === 404) replace({ ...video, state: "failed", error: { message: error.message } });
      }
    }
  }
}

function replace(video) {
  const before = videoById(video.id);
  videos = videos.map((other) => (other.id === video.id ? video : other));
  if (current?.id !== video.id) return render();
  current = video;
  refreshVideo(video);
  render();
  if (before?.state !== video.state) {
    if (isReady(video)) announce(`${video.name} has been watched. Ask your question.`);
    changed(video);
  }
}

function render() {
  renderFacts();
  if (!upload) renderProgress();
  const rows = videos.map(row);
  const focused = document.activeElement?.closest?.("#videos button")?.dataset.key;
  byId("videos").replaceChildren(...rows);
  byId("videos-title").hidden = !videos.length;
  byId("drop").classList.toggle("large", !videos.length);
  if (focused) byId("videos").querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function row(video) {
  const poster = isReady(video) ? posterOf(video) : element("span.poster", { "aria-hidden": "true" });
  const state = video.state === "failed" ? "could not be watched" : isReady(video) ? clock(video.duration) : video.state;
  return element("li", {},
    element("button.choose", {
      type: "button",
      "data-key": video.id,
      "aria-current": video.id === current?.id ? "true" : null,
      onclick: () => show(video),
    }, poster, element("span.name", {}, video.name), element("span.state", {}, state)),
    element("button.quiet.delete", {
      type: "button",
      "data-key": `delete ${video.id}`,
      "aria-label": `Delete ${video.name}`,
      onclick: () => remove(video),
    }, "×"),
  );
}

const posters = new Map();

/** Keeps one picture per video, so that the list does not flicker. */
function posterOf(video) {
  if (!posters.has(video.id)) {
    const image = frameImage(video, Math.floor((video.frames?.planned ?? 0) / 3), 160, "");
    image.className = "poster";
    posters.set(video.id, image);
  }
  return posters.get(video.id);
}

function renderFacts() {
  const facts = byId("facts");
  if (!current) return facts.replaceChildren();
  const parts = [];
  if (current.duration) parts.push(clock(current.duration));
  if (isReady(current)) {
    const { encoded = 0, reused = 0, planned = 0 } = current.frames ?? {};
    parts.push(amount(planned, "frame"));
    if (encoded) parts.push(`watched in ${duration(current.seconds?.wall ?? 0)}`);
    if (reused) parts.push(`${amount(reused, "frame")} known from before`);
  }
  facts.replaceChildren(element("strong", {}, current.name), element("span", {}, parts.join(" · ")));
}

function renderProgress() {
  const box = byId("watching");
  box.classList.toggle("failed", current?.state === "failed");
  if (current?.state === "failed") {
    box.hidden = false;
    byId("progress").hidden = true;
    byId("progress-text").textContent = `This video could not be watched. ${current.error?.message ?? ""}`;
    return;
  }
  if (!current || !UNFINISHED.has(current.state)) {
    box.hidden = true;
    return;
  }
  const { planned = 0, encoded = 0, reused = 0 } = current.frames ?? {};
  const words = { waiting: "Waiting for its turn", reading: "Reading the file", watching: "Watching" }[current.state];
  const parts = [words];
  if (current.state === "watching" && planned) parts.push(`${encoded + reused} of ${amount(planned, "frame")}`);
  if (current.seconds_left !== null && current.seconds_left !== undefined) parts.push(timeLeft(current.seconds_left));
  showProgress(current.progress ?? 0, parts.join(" · "));
}

function showProgress(share, text) {
  byId("watching").hidden = false;
  byId("watching").classList.remove("failed");
  byId("progress").hidden = false;
  byId("progress").value = share;
  byId("progress-text").textContent = text;
}

function listenForDrops() {
  const overlay = byId("overlay");
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    overlay.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) overlay.hidden = true;
  });
  addEventListener("drop", (event) => {
    overlay.hidden = true;
    const [file] = event.dataTransfer?.files ?? [];
    if (!file) return;
    event.preventDefault();
    addFile(file);
  });
}
