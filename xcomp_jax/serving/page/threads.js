// Cards of questions and answers. A card is a conversation: its first question and follow-ups.

import { drawnTurn } from "./answer.js";
import { askTurn } from "./conversation.js";
import { announce, byId, element } from "./dom.js";
import { dropThread } from "./history.js";

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
    model,
    turns: [],
  };
  const node = card(thread);
  byId("threads").prepend(node);
  return askTurn(thread, node, question);
}

function card(thread) {
  const node = element("article.card", {
    "aria-label": thread.turns[0]?.question ?? "Question",
    "data-video": thread.video.id,
  });
  const compare = element(
    "button.quiet.compare-toggle",
    {
      type: "button",
      "aria-pressed": "false",
      onclick: () => compareToggled(thread, compare),
    },
    "Compare",
  );
  node.append(
    element("div.turns", {}, ...thread.turns.map((turn) => drawnTurn(thread, turn))),
    element(
      "footer",
      {},
      followUp(thread, node),
      element(
        "div.actions",
        {},
        element("span.where", {}, thread.video.name),
        compare,
        element(
          "button.quiet",
          {
            type: "button",
            "aria-label": "Delete this conversation",
            onclick: () => remove(thread, node),
          },
          "Delete",
        ),
      ),
    ),
  );
  return node;
}

function followUp(thread, node) {
  const input = element("input", {
    type: "text",
    "aria-label": "Follow-up question",
    placeholder: "Ask a follow-up…",
    maxlength: 4000,
  });
  return element(
    "form.follow",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        const question = input.value.trim();
        if (!question || node.querySelector(".busy")) return;
        input.value = "";
        await askTurn(thread, node, question);
        input.focus();
      },
    },
    input,
    element("button.quiet", { type: "submit" }, "Send"),
  );
}

function remove(thread, node) {
  dropThread(thread.id);
  const next = node.nextElementSibling ?? node.previousElementSibling;
  node.remove();
  compareToggled(null);
  announce("Conversation deleted");
  (next?.querySelector("input") ?? byId("question")).focus();
}
