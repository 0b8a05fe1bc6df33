// Colors: as the system has them, or light or dark by choice.

import { byId } from "./dom.js";

const KEY = "xcomp.theme";
const ORDER = ["system", "light", "dark"];

/** Applies the stored choice and lets the button change it. */
export function startTheme() {
  const button = byId("theme");
  let current = ORDER.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : "system";
  const apply = () => {
    document.documentElement.dataset.theme = current;
    const name = { system: "Auto", light: "Light", dark: "Dark" }[current];
    button.textContent = name;
    button.setAttribute("aria-label", `Colors: ${name}. Change`);
  };
  button.addEventListener("click", () => {
    current = ORDER[(ORDER.indexOf(current) + 1) % ORDER.length];
    localStorage.setItem(KEY, current);
    apply();
  });
  apply();
}
