// A conversation about one video: asks its next question and shows the answer, or why there is none.

import { requestJson, ServerError, streamChat } from "./api.js";
import { drawnTurn } from "./answer.js";
import { announce, element } from "./dom.js";
import { evidenceOf, isScored } from "./evidence.js";
import { keepThread } from "./history.js";

const SLOW_MILLISECONDS = 8000;

/** Asks a question of a conversation, in its card, and draws the answer as it arrives. */
export async function askTurn(thread, node, question) {
  const turn = { question, answer: "", evidence: null };
  if (!thread.turns.length) node.setAttribute("aria-label", question);
  const text = element("p.answer", {});
  const stop = new AbortController();
  const stopper = element("button.quiet", { type: "button", onclick: () => stop.abort() }, "Stop");
  const step = element("span", {}, "Looking for the moments that matter");
  const busy = element(
    "div.busy",
    {},
    element("span.dots", { "aria-hidden": "true" }, element("i"), element("i"), element("i")),
    step,
    stopper,
  );
  const block = element("section.turn", {}, element("h3", {}, question), text, busy);
  node.querySelector(".turns").append(block);
  const slow = setTimeout(() => {
    step.textContent = "Still working. The first question about a video takes longest.";
  }, SLOW_MILLISECONDS);
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
    if (!turn.answer && !result)
      throw new ServerError("The server ended the answer early. Ask again.");
    thread.turns.push(turn);
    keepThread(thread);
    block.replaceWith(drawnTurn(thread, turn));
    announce(`Answer: ${turn.answer}`);
  } catch (error) {
    busy.remove();
    showFailure(block, error, () => {
      block.remove();
      askTurn(thread, node, question);
    });
  } finally {
    clearTimeout(slow);
  }
}

/** Fetches the scores of all frames; a follow-up is answered from the frames of its conversation. */
async function scoresOf(thread, question, result) {
  if (thread.turns.length || !isScored(result)) return null;
  try {
    const path = `/v1/videos/${thread.video.id}/scores?q=${encodeURIComponent(question)}`;
    return (await requestJson(path)).frames;
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
  return { model: thread.model, messages };
}

function showFailure(block, error, retry) {
  if (error.name === "AbortError") {
    block.append(element("p.cost", {}, "Stopped."));
    return;
  }
  block.append(
    element(
      "div.failure",
      { role: "alert" },
      element("p", {}, error.message),
      element("button.quiet", { type: "button", onclick: retry }, "Try again"),
    ),
  );
}
