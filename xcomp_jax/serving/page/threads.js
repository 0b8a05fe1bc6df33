// Cards of questions and answers. A card is a conversation: its first question and follow-ups.

import { requestJson, ServerError, streamChat } from "./api.js";
import { announce, byId, element } from "./dom.js";
import { bestFrames, evidenceOf, isScored } from "./evidence.js";
import { amount, clock, duration } from "./format.js";
import { dropThread, keepThread } from "./history.js";
import { follow, frameImage, seek } from "./player.js";
import { timeline } from "./timeline.js";
import { currentVideo, show, videoById } from "./videos.js";

const THUMBNAILS = 8;

let model = "";
let compareToggled = () => {};

/** Sets the model that is asked, and what happens when the user compares answers. */
export function startThreads(settings) {
  model = settings.model;
  compareToggled = settings.oncompare;
}

/** Adds a stored thread below the others. */
export function restoreThread(thread) {
  byId("threads").append(card(thread));
}

/** Asks a first question about a video, in a new card above the others. */
export function askNew(video, question) {
  const thread = {
    id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`,
    created: Date.now(),
    video: { id: video.id, name: video.name, duration: video.duration },
    turns: [],
  };
  const node = card(thread);
  byId("threads").prepend(node);
  return addTurn(thread, node, question);
}

function card(thread) {
  const node = element("article.card", { "aria-label": thread.turns[0]?.question ?? "Question", "data-video": thread.video.id });
  const compare = element("button.quiet.compare-toggle", {
    type: "button",
    "aria-pressed": "false",
    onclick: () => compareToggled(thread, compare),
  }, "Compare");
  node.append(
    element("div.turns", {}, ...thread.turns.map((turn) => drawnTurn(thread, turn))),
    element("footer", {},
      followUp(thread, node),
      element("div.actions", {},
        element("span.where", {}, thread.video.name),
        compare,
        element("button.quiet", { type: "button", "aria-label": "Delete this conversation", onclick: () => remove(thread, node) }, "Delete"),
      ),
    ),
  );
  return node;
}

function followUp(thread, node) {
  const input = element("input", { type: "text", "aria-label": "Follow-up question", placeholder: "Ask a follow-up…", maxlength: 4000 });
  return element("form.follow", {
    onsubmit: async (event) => {
      event.preventDefault();
      const question = input.value.trim();
      if (!question || node.querySelector(".busy")) return;
      input.value = "";
      await addTurn(thread, node, question);
      input.focus();
    },
  }, input, element("button.quiet", { type: "submit" }, "Send"));
}

function remove(thread, node) {
  dropThread(thread.id);
  const next = node.nextElementSibling ?? node.previousElementSibling;
  node.remove();
  compareToggled(null);
  announce("Conversation deleted");
  (next?.querySelector("input") ?? byId("question")).focus();
}

/** Asks one question of a conversation and draws the answer as it arrives. */
async function addTurn(thread, node, question) {
  const turn = { question, answer: "", evidence: null };
  if (!thread.turns.length) node.setAttribute("aria-label", question);
  const text = element("p.answer", {});
  const stop = new AbortController();
  const stopper = element("button.quiet", { type: "button", onclick: () => stop.abort() }, "Stop");
  const busy = element("div.busy", {}, element("span.dots", { "aria-hidden": "true" }, element("i"), element("i"), element("i")), element("span", {}, "Looking for the moments that matter"), stopper);
  const block = element("section.turn", {}, element("h3", {}, question), text, busy);
  node.querySelector(".turns").append(block);
  let result = null;
  try {
    for await (const chunk of streamChat(bodyOf(thread, question), stop.signal)) {
      const piece = chunk.choices?.[0]?.delta?.content;
      if (piece) {
        turn.answer += piece;
        text.textContent = turn.answer;
      }
      result = chunk.xcomp ?? result;
    }
    if (result) turn.evidence = evidenceOf(result, await scoresOf(thread, question, result));
    if (!turn.answer && !result) throw new ServerError("The server ended the answer early. Ask again.");
    thread.turns.push(turn);
    keepThread(thread);
    block.replaceWith(drawnTurn(thread, turn));
    announce(`Answer: ${turn.answer}`);
  } catch (error) {
    busy.remove();
    showFailure(block, error, () => {
      block.remove();
      addTurn(thread, node, question);
    });
  }
}

/** Fetches the scores of all frames; a follow-up is answered from the frames of its conversation. */
async function scoresOf(thread, question, result) {
  if (thread.turns.length || !isScored(result)) return null;
  try {
    return (await requestJson(`/v1/videos/${thread.video.id}/scores?q=${encodeURIComponent(question)}`)).frames;
  } catch {
    return null; // The answer is complete without its curve.
  }
}

function bodyOf(thread, question) {
  const [first, ...later] = [...thread.turns, { question }];
  const content = [
    { type: "video_url", video_url: { url: `xcomp://${thread.video.id}` } },
    { type: "text", text: first.question },
  ];
  const messages = [{ role: "user", content }];
  let answer = first.answer;
  for (const turn of later) {
    messages.push({ role: "assistant", content: answer }, { role: "user", content: turn.question });
    answer = turn.answer;
  }
  return { model, messages };
}

function showFailure(block, error, retry) {
  if (error.name === "AbortError") {
    block.append(element("p.cost", {}, "Stopped."));
    return;
  }
  block.append(element("div.failure", { role: "alert" },
    element("p", {}, error.message),
    element("button.quiet", { type: "button", onclick: retry }, "Try again"),
  ));
}

function drawnTurn(thread, turn) {
  const block = element("section.turn", {}, element("h3", {}, turn.question), element("p.answer", {}, turn.answer || "(no words)"));
  if (turn.evidence) block.append(...drawnEvidence(thread, turn.evidence));
  return block;
}

function drawnEvidence(thread, evidence) {
  const go = (time) => goTo(thread, time);
  const line = timeline([evidence], thread.video.duration ?? 0, go);
  follow(line.node, (time) => currentVideo()?.id === thread.video.id && line.place(time));
  const frames = bestFrames(evidence, THUMBNAILS);
  const thumbnails = element("ol.frames", { "aria-label": "Frames that the answer comes from" },
    ...frames.map((frame) => element("li", {},
      element("button", { type: "button", "aria-label": `Jump to ${clock(frame.time)}`, onclick: () => go(frame.time) },
        frameImage(videoById(thread.video.id), frame.index, 160, ""),
        element("span", {}, clock(frame.time)),
      ),
    )),
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
  parts.push(selected.length < sampled ? `${selected.length} of ${amount(sampled, "frame")} used` : `all ${amount(sampled, "frame")} used`);
  parts.push(`${encoded} encoded`, `${reused} reused`);
  const steps = ["watch", "score", "prefill", "decode"].filter((step) => seconds[step] > 0.0005);
  const details = steps.map((step) => `${step} ${seconds[step].toFixed(2)} s`).join(", ");
  return element("p.cost", { title: details || null }, parts.join(" · "));
}
