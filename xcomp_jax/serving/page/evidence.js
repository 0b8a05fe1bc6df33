// The part of a server's answer that the page keeps: score curve, selected frames, cost.

const MAX_POINTS = 400;

/** Whether the frames of an answer were selected by their scores. */
export const isScored = (result) =>
  (result.frames ?? []).some((frame) => typeof frame.score === "number");

/**
 * Shortens the `xcomp` object of a chat completion for drawing and for the browser's storage.
 *
 * @param scored all sampled frames with their scores; null if no frame was scored.
 */
export function evidenceOf(result, scored) {
  const frames = result.frames ?? [];
  return {
    sampled: result.frames_sampled ?? frames.length,
    curve: scored?.length ? curveOf(scored) : null,
    selected: frames.map(({ index, time, score }) => ({ index, time, score: score ?? null })),
    seconds: result.seconds ?? {},
    encoded: result.frames_encoded ?? 0,
    reused: result.frames_reused ?? 0,
  };
}

/** Returns at most MAX_POINTS pairs [time, score from 0 to 1]; a dense curve keeps its peaks. */
function curveOf(frames) {
  const scores = frames.map((frame) => frame.score);
  const low = Math.min(...scores);
  const span = Math.max(...scores) - low || 1;
  const step = Math.ceil(frames.length / MAX_POINTS);
  const points = [];
  for (let first = 0; first < frames.length; first += step) {
    const group = frames.slice(first, first + step);
    const best = group.reduce((a, b) => (b.score > a.score ? b : a));
    points.push([round(best.time), round((best.score - low) / span)]);
  }
  return points;
}

/** Returns the `count` selected frames with the best scores, in order of time. */
export function bestFrames(evidence, count) {
  const { selected } = evidence;
  if (selected.length <= count) return selected;
  const spread = selected.filter((_, place) => place % Math.ceil(selected.length / count) === 0);
  if (selected[0].score === null) return spread;
  const best = [...selected].sort((a, b) => b.score - a.score).slice(0, count);
  return best.sort((a, b) => a.time - b.time);
}

/** Returns the time with the best score; null if nothing was scored. */
export function peakTime(evidence) {
  if (!evidence.curve) return null;
  return evidence.curve.reduce((a, b) => (b[1] > a[1] ? b : a))[0];
}

const round = (value) => Math.round(value * 1000) / 1000;
