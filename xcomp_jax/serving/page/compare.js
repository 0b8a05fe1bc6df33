// Two answers about one video, side by side over one timeline.

import { announce, byId, element } from "./dom.js";
import { amount } from "./format.js";
import { follow, seek } from "./player.js";
import { timeline } from "./timeline.js";
import { currentVideo, show, videoById } from "./videos.js";

let picked = [];

/** Adds a thread to the comparison or takes it out; null only forgets threads that are gone. */
export function toggleCompare(thread, button) {
  picked = picked.filter((pick) => pick.button.isConnected);
  if (thread) {
    const already = picked.some((pick) => pick.button === button);
    if (already) picked = picked.filter((pick) => pick.button !== button);
    else if (thread.turns.length)
      picked = [
        ...picked.filter((pick) => pick.thread.video.id === thread.video.id),
        { thread, button },
      ].slice(-2);
  }
  for (const other of document.querySelectorAll(".compare-toggle")) {
    other.setAttribute(
      "aria-pressed",
      picked.some((pick) => pick.button === other),
    );
  }
  render();
}

function render() {
  const box = byId("compare");
  box.hidden = !picked.length;
  if (!picked.length) return box.replaceChildren();
  const threads = picked.map((pick) => pick.thread);
  const head = element(
    "div.compare-head",
    {},
    element("h2", {}, "Comparison"),
    element("button.quiet", { type: "button", onclick: close }, "Close"),
  );
  const answers = threads.map((thread, place) => column(thread.turns.at(-1), place));
  if (threads.length === 1)
    answers.push(
      element("p.hint", {}, "Choose “Compare” at a second answer about the same video."),
    );
  box.replaceChildren(head, element("div.columns", {}, ...answers));
  const evidence = threads.map((thread) => thread.turns.at(-1).evidence).filter(Boolean);
  if (evidence.length === 2) {
    const { id, duration = 0 } = threads[0].video;
    const line = timeline(evidence, duration, (time) => {
      const video = videoById(id);
      if (!video) return;
      if (currentVideo()?.id !== id) show(video);
      seek(time);
    });
    follow(line.node, (time) => currentVideo()?.id === id && line.place(time));
    box.append(line.node, element("p.cost", {}, sharedFrames(evidence)));
    announce("Two answers are compared");
    box.scrollIntoView({ block: "nearest" });
  }
}

function column(turn, place) {
  return element(
    `div.column.${place ? "second" : "first"}`,
    {},
    element("h3", {}, turn.question),
    element("p.answer", {}, turn.answer),
  );
}

function sharedFrames([one, two]) {
  const known = new Set(one.selected.map((frame) => frame.index));
  const shared = two.selected.filter((frame) => known.has(frame.index)).length;
  return `${amount(shared, "frame")} used by both, ${one.selected.length} by the first, ${two.selected.length} by the second`;
}

function close() {
  picked = [];
  toggleCompare(null);
  byId("question").focus();
}
