// What is known about the shown video, and the progress of uploading and watching it.

import { byId, element } from "./dom.js";
import { amount, clock, duration, timeLeft } from "./format.js";

const WORDS = {
  waiting: "Waiting for its turn",
  reading: "Reading the file",
  watching: "Watching",
};

/** Whether the server still works on a video. */
export const isUnfinished = (video) => video.state in WORDS;

/** Whether questions about a video are answered at once. */
export const isReady = (video) => video?.state === "ready";

/** Writes name, duration and cost of a video; null clears the line. */
export function showFacts(video) {
  const facts = byId("facts");
  if (!video) return facts.replaceChildren();
  const parts = [];
  if (video.duration) parts.push(clock(video.duration));
  if (isReady(video)) {
    const { encoded = 0, reused = 0, planned = 0 } = video.frames ?? {};
    parts.push(amount(planned, "frame"));
    // Scoring in several rounds encodes a frame in several clips, so that these are no shares.
    if (encoded) parts.push(`watched in ${duration(video.seconds?.wall ?? 0)}`);
    else if (reused) parts.push("known from before");
  }
  facts.replaceChildren(element("strong", {}, video.name), element("span", {}, parts.join(" · ")));
}

/** Shows how far watching has come, or why it failed. */
export function showWatching(video) {
  const box = byId("watching");
  box.classList.toggle("failed", video?.state === "failed");
  box.hidden = !video || isReady(video);
  if (box.hidden) return;
  if (video.state === "failed") {
    byId("progress").hidden = true;
    const reason = video.error?.message ?? "";
    byId("progress-text").textContent = `This video could not be watched. ${reason}`;
    return;
  }
  const planned = video.frames?.planned;
  const parts = [WORDS[video.state]];
  if (video.state === "watching" && planned) {
    parts.push(`${Math.floor((video.progress ?? 0) * planned)} of ${amount(planned, "frame")}`);
  }
  if (typeof video.seconds_left === "number") parts.push(timeLeft(video.seconds_left));
  showProgress(video.progress ?? 0, parts.join(" · "));
}

/** Shows a share from 0 to 1 and words about it. */
export function showProgress(share, text) {
  byId("watching").hidden = false;
  byId("watching").classList.remove("failed");
  byId("progress").hidden = false;
  byId("progress").value = share;
  byId("progress-text").textContent = text;
}
