// Uploads of video files: in parts, so that a broken connection costs one part.

import { errorOf, keyHeaders, renewKey, requestJson, ServerError } from "./api.js";

const PART_BYTES = 16 * 2 ** 20;
const ATTEMPTS = 4;

/**
 * Uploads a file and returns its file object.
 *
 * @param progress called with the share that has arrived, 0 to 1.
 * @param signal aborts the upload.
 */
export async function uploadFile(file, progress, signal) {
  const type = file.type || "application/octet-stream";
  const json = { filename: file.name, bytes: file.size, mime_type: type, purpose: "user_data" };
  const upload = await requestJson("/v1/uploads", { json, signal });
  const parts = [];
  for (let first = 0; first < file.size; first += PART_BYTES) {
    const part = file.slice(first, first + PART_BYTES);
    const report = (sent) => progress(Math.min(1, (first + sent) / file.size));
    parts.push((await sendPart(upload.id, part, report, signal)).id);
  }
  const done = await requestJson(`/v1/uploads/${upload.id}/complete`, {
    json: { part_ids: parts },
    signal,
  });
  progress(1);
  return done.file ?? done;
}

async function sendPart(id, part, report, signal) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await post(`/v1/uploads/${id}/parts`, part, report, signal);
    } catch (error) {
      if (error.status === 401) await renewKey();
      else if (error.status !== 0 || attempt === ATTEMPTS) throw error;
      else await new Promise((resolve) => setTimeout(resolve, 1000 * 2 ** attempt));
    }
  }
}

/** Posts one part. XMLHttpRequest, because fetch does not report progress. */
function post(path, part, report, signal) {
  return new Promise((resolve, reject) => {
    const exchange = new XMLHttpRequest();
    exchange.open("POST", path);
    for (const [name, value] of Object.entries(keyHeaders()))
      exchange.setRequestHeader(name, value);
    exchange.upload.onprogress = (event) => report(event.loaded);
    exchange.onerror = () =>
      reject(new ServerError("The connection broke during the upload. Try again."));
    exchange.onload = () => {
      if (exchange.status < 300) resolve(JSON.parse(exchange.responseText));
      else
        reject(
          errorOf(
            exchange.status,
            exchange.responseText,
            exchange.getResponseHeader("Retry-After"),
          ),
        );
    };
    exchange.onabort = () => reject(new DOMException("The upload was cancelled.", "AbortError"));
    signal.addEventListener("abort", () => exchange.abort());
    const form = new FormData();
    form.append("data", part);
    exchange.send(form);
  });
}
