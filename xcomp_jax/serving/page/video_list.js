// The list of videos: a row with picture, name and state for each.

import { byId, element } from "./dom.js";
import { clock } from "./format.js";
import { frameImage } from "./player.js";
import { isReady } from "./watch_progress.js";

const posters = new Map();

/** Draws all rows again; the focus stays where it is. */
export function showList(videos, current, { choose, remove }) {
  const focused = document.activeElement?.closest?.("#videos button")?.dataset.key;
  byId("videos").replaceChildren(
    ...videos.map((video) => row(video, video.id === current?.id, choose, remove)),
  );
  byId("videos-title").hidden = !videos.length;
  byId("drop").classList.toggle("large", !videos.length);
  if (focused)
    byId("videos")
      .querySelector(`[data-key="${CSS.escape(focused)}"]`)
      ?.focus();
}

function row(video, isCurrent, choose, remove) {
  const choice = element(
    "button.choose",
    {
      type: "button",
      "data-key": video.id,
      "aria-current": isCurrent ? "true" : null,
      onclick: () => choose(video),
    },
    isReady(video) ? poster(video) : element("span.poster", { "aria-hidden": "true" }),
    element("span.name", {}, video.name),
    element("span.state", {}, stateOf(video)),
  );
  const deletion = element(
    "button.quiet.delete",
    {
      type: "button",
      "data-key": `delete ${video.id}`,
      "aria-label": `Delete ${video.name}`,
      onclick: () => remove(video),
    },
    "×",
  );
  return element("li", {}, choice, deletion);
}

function stateOf(video) {
  if (video.state === "failed") return "could not be watched";
  return isReady(video) ? clock(video.duration) : video.state;
}

/** Keeps one picture per video, so that the list does not flicker. */
function poster(video) {
  if (!posters.has(video.id)) {
    const image = frameImage(video, Math.floor((video.frames?.planned ?? 0) / 3), 160, "");
    image.className = "poster";
    posters.set(video.id, image);
  }
  return posters.get(video.id);
}
