// Requests to the server: key, errors in plain words, streamed answers.

import { askForKey } from "./dialogs.js";

const KEY = "xcomp.key";

/** An error with a message for people; `retryAfter` is in seconds. */
export class ServerError extends Error {
  constructor(message, { status = 0, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Returns the headers that identify the user; empty on a server without keys. */
export function keyHeaders() {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Sends a request; asks for the key where the server wants one. Rejects with ServerError. */
export async function request(path, { json, ...options } = {}) {
  const headers = { ...options.headers, ...keyHeaders() };
  if (json !== undefined) {
    options = { ...options, method: options.method ?? "POST", body: JSON.stringify(json) };
    headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server does not answer. Is it still running?");
  }
  if (response.status === 401) {
    await renewKey();
    return request(path, { json, ...options });
  }
  if (!response.ok)
    throw await errorOf(
      response.status,
      await response.text(),
      response.headers.get("Retry-After"),
    );
  return response;
}

/** Sends a request and reads its JSON. */
export async function requestJson(path, options) {
  return (await request(path, options)).json();
}

/** Asks for a key and keeps it until the tab is closed. */
export async function renewKey() {
  const refused = sessionStorage.getItem(KEY) !== null;
  sessionStorage.setItem(KEY, await askForKey(refused));
}

/** Turns the body of a refused request into a ServerError. */
export function errorOf(status, body, retryAfter) {
  let message = "";
  try {
    message = JSON.parse(body).error.message;
  } catch {
    message = "";
  }
  const wait = Number(retryAfter) || null;
  if (status === 429) {
    const when = wait ? `in ${wait} seconds` : "in a moment";
    message = `The server is busy. Try again ${when}.`;
  } else if (status === 413 && !message) {
    message = "The file is larger than this server accepts.";
  } else if (!message) {
    message = `The server could not do this (status ${status}).`;
  }
  return new ServerError(message, { status, retryAfter: wait });
}

/** Yields the JSON chunks of a streamed chat completion. */
export async function* streamChat(body, signal) {
  const options = {
    json: { ...body, stream: true, stream_options: { include_usage: true } },
    signal,
  };
  const response = await request("/v1/chat/completions", options);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value.replaceAll("\r\n", "\n")).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event
        .split("\n")
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trim())
        .join("\n");
      if (data === "[DONE]") return;
      if (!data) continue;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ServerError(chunk.error.message);
      yield chunk;
    }
  }
}
