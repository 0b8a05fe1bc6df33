// The player; where the browser cannot play the file, the frames that XComp decoded instead.

import { byId, element } from "./dom.js";
import { clock } from "./format.js";

let shown = null;
const followers = new Set();

/** Calls `place(time)` whenever the player moves, as long as `node` is in the document. */
export function follow(node, place) {
  followers.add({ node, place });
}

/** Shows a video; null clears the screen. */
export function showVideo(video) {
  if (shown?.id === video?.id) return;
  const screen = byId("screen");
  screen.replaceChildren();
  shown = video && { id: video.id, video, player: null };
  screen.classList.toggle("blank", !video);
  if (!video) return;
  const player = element("video", {
    controls: true,
    playsinline: true,
    preload: "metadata",
    "aria-label": video.name,
  });
  player.addEventListener("timeupdate", () => moved(player.currentTime));
  player.addEventListener("error", () => shown?.player === player && showFrames());
  shown.player = player;
  player.src = video.content_url;
  screen.append(player);
}

/** Tells the screen about newer facts, such as the number of frames, of the video it shows. */
export function refreshVideo(video) {
  if (shown?.id !== video.id) return;
  shown.video = video;
  if (!shown.player) showFrame(shown.time ?? 0);
  hideUnreadable();
}

/** Moves the player to a time, in seconds, and shows it. */
export function seek(time) {
  if (!shown) return;
  if (shown.player) {
    shown.player.currentTime = time;
    shown.player.pause();
  } else {
    showFrame(time);
  }
  moved(time);
  const smooth = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  byId("screen").scrollIntoView({ block: "nearest", behavior: smooth ? "smooth" : "auto" });
}

function moved(time) {
  for (const follower of followers) {
    if (follower.node.isConnected) follower.place(time);
    else followers.delete(follower);
  }
}

function showFrames() {
  shown.player = null;
  const note =
    "This browser cannot play the format of this file. Answers and frames work as usual.";
  const picture = element("img", { alt: "", id: "still" });
  byId("screen").replaceChildren(picture, element("p.note", { role: "status" }, note));
  showFrame(0);
  hideUnreadable();
}

/** Clears the screen where neither the browser nor XComp can read the file. */
function hideUnreadable() {
  if (shown.player || shown.video.state !== "failed") return;
  byId("screen").replaceChildren();
  byId("screen").classList.add("blank");
}

/** Shows the sampled frame nearest to a time. */
function showFrame(time) {
  const { video } = shown;
  shown.time = time;
  const count = video.frames?.planned ?? 0;
  const picture = byId("still");
  if (!count || !video.duration || !picture) return;
  const index = Math.min(count - 1, Math.round((time / video.duration) * count));
  picture.alt = `Frame at ${clock(time)}`;
  picture.src = frameAddress(video, index, 640);
}

/** Builds a picture of one sampled frame; it stays blank if the server no longer has the video. */
export function frameImage(video, index, width, alt) {
  const picture = element("img", { alt, loading: "lazy", width: 160, height: 90 });
  picture.addEventListener("error", () => picture.classList.add("missing"));
  if (video) picture.src = frameAddress(video, index, width);
  else picture.classList.add("missing");
  return picture;
}

function frameAddress(video, index, width) {
  const address = new URL(video.frame_url.replace("{index}", index), location.href);
  address.searchParams.set("width", width);
  return address.href;
}
