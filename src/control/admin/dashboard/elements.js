// Elements and lists of them. What comes from the process only ever becomes text.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; `text`, `on` and `class` are what they say. */
export function element(name, { text, on = {}, ...attributes } = {}, ...children) {
  return fill(document.createElement(name), text, on, attributes, children);
}

/** The same of SVG. */
export function drawn(name, { text, on = {}, ...attributes } = {}, ...children) {
  return fill(document.createElementNS(SVG, name), text, on, attributes, children);
}

function fill(made, text, on, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) {
      made.setAttribute(name, value === true ? "" : value);
    }
  }
  for (const [name, heard] of Object.entries(on)) made.addEventListener(name, heard);
  if (text !== undefined) made.textContent = text;
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Writes a text only where it is another, so that neither selections nor screen readers are disturbed. */
export function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Sets an attribute only where it is another; `null` takes it away. */
export function mark(target, name, value) {
  if (value === null || value === undefined || value === false) {
    if (target.hasAttribute(name)) target.removeAttribute(name);
  } else if (target.getAttribute(name) !== String(value)) {
    target.setAttribute(name, String(value));
  }
}

/**
 * Makes the children of `parent` those of `items`, in their order. A child stays for as long as there is
 * an item with its key, so that the focus does, too.
 */
export function keep(parent, items, { key, make, update = () => {} }) {
  const known = (parent.known ??= new Map());
  if (known.size === 0 && parent.firstChild) parent.replaceChildren();
  const wanted = new Set();
  let place = parent.firstChild;
  for (const item of items) {
    const own = key(item);
    wanted.add(own);
    let child = known.get(own);
    if (!child) {
      child = make(item);
      known.set(own, child);
    }
    update(child, item);
    if (child === place) {
      place = place.nextSibling;
    } else {
      parent.insertBefore(child, place);
    }
  }
  for (const [own, child] of known) {
    if (!wanted.has(own)) {
      child.remove();
      known.delete(own);
    }
  }
}

/** Buttons of which one is pressed. */
export function choice(parent, options, chosen, choose) {
  const press = (value) => {
    for (const button of parent.children) button.setAttribute("aria-pressed", String(button.value === value));
  };
  for (const [value, text] of options) {
    const chooseThis = () => {
      press(value);
      choose(value);
    };
    parent.append(element("button", { type: "button", value, text, on: { click: chooseThis } }));
  }
  press(chosen);
}

/** A sign for a state or an event: told by its shape as well as by its colour. */
export function sign(shape, tone) {
  const draw = SHAPES[shape] ?? SHAPES.ring;
  return drawn("svg", { class: `sign ${tone}`, viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" },
    ...draw());
}

const path = (d, filled) => drawn("path", { d, class: filled ? "full" : "line" });

/** The shapes within a square of 12. */
export const SHAPES = {
  disc: () => [path("M6 1.5a4.5 4.5 0 1 0 .01 0z", true)],
  ring: () => [path("M6 2a4 4 0 1 0 .01 0z")],
  half: () => [path("M6 2a4 4 0 1 0 .01 0z"), path("M6 2a4 4 0 0 0 0 8z", true)],
  triangle: () => [path("M6 1.2 11.2 10.6H.8z", true)],
  fallen: () => [path("M6 10.8.8 1.4h10.4z", true)],
  diamond: () => [path("M6 1.2 10.8 6 6 10.8 1.2 6z")],
  gem: () => [path("M6 .8 11.2 6 6 11.2.8 6z", true)],
  cross: () => [path("M2.2 2.2 9.8 9.8M9.8 2.2 2.2 9.8")],
  bar: () => [path("M6 2a4 4 0 1 0 .01 0z"), path("M3.2 8.8 8.8 3.2")],
  drop: () => [path("M6 1v7M3 5.4 6 8.4 9 5.4M2 11h8")],
  square: () => [path("M1.8 1.8h8.4v8.4H1.8z", true)],
  frame: () => [path("M2.2 2.2h7.6v7.6H2.2z")],
  dot: () => [path("M6 3.6a2.4 2.4 0 1 0 .01 0z", true)],
};
