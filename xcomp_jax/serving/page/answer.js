// An answer as it is kept: words, timeline, thumbnails of the frames, and what it cost.

import { announce, element } from "./dom.js";
import { bestFrames } from "./evidence.js";
import { amount, clocks, duration } from "./format.js";
import { follow, frameImage, seek } from "./player.js";
import { timeline } from "./timeline.js";
import { currentVideo, show, videoById } from "./videos.js";

const THUMBNAILS = 8;

/** Draws a question with its answer, timeline, frames and cost. */
export function drawnTurn(thread, turn) {
  const block = element(
    "section.turn",
    {},
    element("h3", {}, turn.question),
    element("p.answer", {}, turn.answer || "(no words)"),
  );
  if (turn.evidence) block.append(...drawnEvidence(thread, turn.evidence));
  return block;
}

function drawnEvidence(thread, evidence) {
  const go = (time) => goTo(thread, time);
  const line = timeline([evidence], thread.video.duration ?? 0, go);
  follow(line.node, (time) => currentVideo()?.id === thread.video.id && line.place(time));
  const frames = bestFrames(evidence, THUMBNAILS);
  const times = clocks(frames.map((frame) => frame.time));
  const thumbnails = element(
    "ol.frames",
    { "aria-label": "Frames that the answer comes from" },
    ...frames.map((frame, place) =>
      element(
        "li",
        {},
        element(
          "button",
          {
            type: "button",
            "aria-label": `Jump to ${times[place]}`,
            onclick: () => go(frame.time),
          },
          frameImage(videoById(thread.video.id), frame.index, 160, ""),
          element("span", {}, times[place]),
        ),
      ),
    ),
  );
  return [line.node, thumbnails, costLine(evidence)];
}

/** Shows a moment of the thread's video, which may be another than the one on the screen. */
function goTo(thread, time) {
  const video = videoById(thread.video.id);
  if (!video) return announce("This video is no longer on the server");
  if (currentVideo()?.id !== video.id) show(video);
  seek(time);
}

function costLine(evidence) {
  const { seconds, selected, sampled, encoded, reused } = evidence;
  const parts = [];
  if (seconds.total !== undefined) parts.push(duration(seconds.total));
  parts.push(
    selected.length < sampled
      ? `${selected.length} of ${amount(sampled, "frame")} used`
      : `all ${amount(sampled, "frame")} used`,
  );
  parts.push(`${encoded} encoded`, `${reused} reused`);
  const steps = ["watch", "score", "prefill", "decode"].filter((step) => seconds[step] > 0.0005);
  const details = steps.map((step) => `${step} ${seconds[step].toFixed(2)} s`).join(", ");
  return element("p.cost", { title: details || null }, parts.join(" · "));
}
