// Builds elements and finds the fixed ones of index.html.

/** Returns the element with this id. */
export const byId = (id) => document.getElementById(id);

/**
 * Builds an element. Attributes that start with "on" are listeners; null and false are left out.
 * Children are nodes or text, never HTML.
 */
export function element(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  setAttributes(node, attributes);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Builds an element of an SVG picture. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  setAttributes(node, attributes);
  node.append(...children);
  return node;
}

function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
}

/** Reads a message to users of screen readers. */
export function announce(text) {
  byId("announcer").textContent = text;
}
