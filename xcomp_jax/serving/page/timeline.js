// The timeline of scores below an answer: a curve, the selected frames, and the player's position.

import { element, svg } from "./dom.js";
import { clock } from "./format.js";
import { peakTime } from "./evidence.js";

const WIDTH = 1000;
const HEIGHT = 72;
const TOP = 8;

/**
 * Builds the timeline of one or two answers about the same video.
 *
 * @param series evidence of each answer; the first is drawn in the accent color.
 * @param seconds duration of the video.
 * @param seek called with the time that the user chose.
 */
export function timeline(series, seconds, seek) {
  const picture = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  const x = (time) => (seconds > 0 ? Math.min(1, time / seconds) * WIDTH : 0);
  series.forEach((evidence, place) => {
    const className = place ? "second" : "first";
    for (const frame of evidence.selected) {
      picture.append(
        svg("line", {
          class: `tick ${className}`,
          x1: x(frame.time),
          x2: x(frame.time),
          y1: HEIGHT - 7,
          y2: HEIGHT,
        }),
      );
    }
    if (evidence.curve) picture.append(...curve(evidence.curve, x, className));
  });
  const head = svg("line", { class: "head", x1: 0, x2: 0, y1: 0, y2: HEIGHT });
  picture.append(head);
  const bubble = element("span.bubble", { hidden: true, "aria-hidden": "true" });
  const track = element(
    "div.track",
    {
      role: "slider",
      tabindex: 0,
      "aria-label": label(series, seconds),
      "aria-valuemin": 0,
      "aria-valuemax": Math.round(seconds),
    },
    picture,
    bubble,
  );
  const place = (time) => {
    head.setAttribute("x1", x(time));
    head.setAttribute("x2", x(time));
    track.setAttribute("aria-valuenow", Math.round(time));
    track.setAttribute("aria-valuetext", clock(time));
  };
  place(0);
  listen(track, bubble, seconds, seek);
  const middle = element("span", {}, clock(seconds / 2));
  const axis = element(
    "div.axis",
    { "aria-hidden": "true" },
    element("span", {}, "0:00"),
    middle,
    element("span", {}, clock(seconds)),
  );
  return { node: element("div.timeline", {}, track, axis), place };
}

function curve(points, x, className) {
  const y = (score) => HEIGHT - 10 - score * (HEIGHT - 10 - TOP);
  const line = points.map(([time, score]) => `${x(time).toFixed(1)} ${y(score).toFixed(1)}`);
  const ends = [x(points[0][0]), x(points.at(-1)[0])].map((end) => end.toFixed(1));
  return [
    svg("path", {
      class: `area ${className}`,
      d: `M${ends[0]} ${HEIGHT - 9}L${line.join("L")}L${ends[1]} ${HEIGHT - 9}Z`,
    }),
    svg("path", { class: `curve ${className}`, d: `M${line.join("L")}` }),
  ];
}

function label(series, seconds) {
  const peak = peakTime(series[0]);
  const found = peak === null ? "every frame was used" : `highest score at ${clock(peak)}`;
  return `Scores over ${clock(seconds)}, ${found}. Arrow keys move the player`;
}

function listen(track, bubble, seconds, seek) {
  const timeAt = (event) => {
    const box = track.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * seconds;
  };
  track.addEventListener("click", (event) => seek(timeAt(event)));
  track.addEventListener("pointermove", (event) => {
    const time = timeAt(event);
    bubble.hidden = false;
    bubble.textContent = clock(time);
    bubble.style.left = `${(100 * time) / (seconds || 1)}%`;
  });
  track.addEventListener("pointerleave", () => (bubble.hidden = true));
  track.addEventListener("keydown", (event) => {
    const now = Number(track.getAttribute("aria-valuenow"));
    const step = Math.max(1, seconds / 50);
    const moves = { ArrowLeft: now - step, ArrowRight: now + step, Home: 0, End: seconds };
    if (!(event.key in moves)) return;
    event.preventDefault();
    seek(Math.min(seconds, Math.max(0, moves[event.key])));
  });
}
