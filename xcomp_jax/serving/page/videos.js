// The videos of the server: which one is shown, adding and deleting one, and their progress.

import { requestJson } from "./api.js";
import { confirmed } from "./dialogs.js";
import { announce, byId } from "./dom.js";
import { bytes } from "./format.js";
import { refreshVideo, showVideo } from "./player.js";
import { uploadFile } from "./upload.js";
import { showList } from "./video_list.js";
import { isReady, isUnfinished, showFacts, showProgress, showWatching } from "./watch_progress.js";

const POLL_MILLISECONDS = 600;

let videos = [];
let current = null;
let upload = null;
let limit = Infinity;
let changed = () => {};
let failed = () => {};

export const currentVideo = () => current;
export const videoById = (id) => videos.find((video) => video.id === id) ?? null;

/** Fills the list. `onchange` is called with each newer state of the shown video. */
export async function startVideos({ onchange, onfailure, uploadLimit }) {
  changed = onchange;
  failed = onfailure;
  limit = uploadLimit ?? Infinity;
  if (limit < Infinity) {
    byId("limit").textContent = `Drop a file or choose one, up to ${bytes(limit)}`;
  }
  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) addFile(file).finally(() => (event.target.value = ""));
  });
  byId("cancel").addEventListener("click", () => upload?.abort());
  listenForDrops();
  videos = (await requestJson("/v1/videos")).data;
  show(videos[0] ?? null);
  poll();
}

/** Shows a video on the screen; null if there is none. */
export function show(video) {
  current = video;
  showVideo(video);
  render();
  changed(current);
}

/** Uploads a file and has it watched. */
async function addFile(file) {
  if (upload) return failed("An upload is in progress. Wait until it is done, or cancel it.");
  if (file.size > limit) {
    const sizes = `${file.name} has ${bytes(file.size)}; this server accepts up to ${bytes(limit)}.`;
    return failed(sizes);
  }
  upload = new AbortController();
  byId("cancel").hidden = false;
  announce(`Uploading ${file.name}`);
  try {
    const report = (share) =>
      showProgress(share, `Uploading ${file.name} · ${Math.round(100 * share)} %`);
    report(0);
    const stored = await uploadFile(file, report, upload.signal);
    const json = { file_id: stored.id, name: file.name };
    const video = await requestJson("/v1/videos", { json });
    videos = [video, ...videos.filter((other) => other.id !== video.id)];
    upload = null;
    show(video);
  } catch (error) {
    if (error.name !== "AbortError") failed(`${file.name}: ${error.message}`);
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
    for (const { id } of videos.filter(isUnfinished)) {
      try {
        replace(await requestJson(`/v1/videos/${id}`));
      } catch (error) {
        if (error.status === 404) videos = videos.filter((video) => video.id !== id);
        else if (error.status) failed(error.message);
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
  if (before?.state === video.state) return;
  if (isReady(video)) announce(`${video.name} has been watched. Ask your question.`);
  changed(video);
}

function render() {
  showFacts(current);
  if (!upload) showWatching(current);
  showList(videos, current, { choose: show, remove });
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
