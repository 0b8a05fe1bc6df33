// The two dialogs: the key of the server, and confirmation before something is deleted.

import { byId } from "./dom.js";

let pendingKey = null;

/** Asks for the API key, once for all requests that wait for it. */
export function askForKey(refused) {
  pendingKey ??= showKeyDialog(refused).finally(() => (pendingKey = null));
  return pendingKey;
}

function showKeyDialog(refused) {
  const dialog = byId("key-dialog");
  if (refused)
    byId("key-text").textContent =
      "The server did not accept this key. Check it and enter it again.";
  byId("key").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  // Without a key nothing works, so Escape keeps the dialog open.
  dialog.oncancel = (event) => event.preventDefault();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      if (dialog.returnValue === "ok") resolve(byId("key").value.trim());
      // Browsers close a dialog at the second Escape in a row, whatever `oncancel` says.
      else dialog.showModal();
    };
  });
}

/** Resolves to true if the user confirms. */
export function confirmed(title, text) {
  const dialog = byId("confirm-dialog");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "ok");
  });
}
