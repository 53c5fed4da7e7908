// Small helpers that make and change DOM nodes. Text goes in through textContent only; there is no way to pass HTML or inline styles.

const SVG = 'http://www.w3.org/2000/svg';

function setAttribute(node, name, value) {
  if (name.startsWith('on') || name === 'style' || name === 'innerHTML') throw new Error(`attribute "${name}" is not allowed`);
  if (value === false || value === null || value === undefined) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? '' : String(value));
}

// h('button', {class: 'quiet', type: 'button', on: {click: f}}, 'Text', child, ...); null children are left out.
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  const { on = {}, ...rest } = attributes;
  for (const [name, value] of Object.entries(rest)) setAttribute(node, name, value);
  for (const [event, listener] of Object.entries(on)) node.addEventListener(event, listener);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(node, name, value);
  node.append(...children);
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    const wanted = value === false || value === null ? null : value === true ? '' : String(value);
    if (node.getAttribute(name) !== wanted) setAttribute(node, name, value);
  }
}

export function show(node, visible) {
  node.hidden = !visible;
}

// Makes the children of parent the nodes of items, in order, reusing those with the same key.
// create(item) returns {node, update(item)}; what it returns is kept in the map `kept`.
export function keyed(parent, kept, items, keyOf, create) {
  const wanted = new Set(items.map(keyOf));
  for (const [key, row] of kept) {
    if (wanted.has(key)) continue;
    row.node.remove();
    kept.delete(key);
  }
  items.forEach((item, i) => {
    const key = keyOf(item);
    if (!kept.has(key)) kept.set(key, create(item));
    const row = kept.get(key);
    row.update(item);
    if (parent.children[i] !== row.node) parent.insertBefore(row.node, parent.children[i] ?? null);
  });
}

// Calls f only when one of its inputs changed since the last call.
export function whenChanged(f) {
  let last = null;
  return (...inputs) => {
    if (last && inputs.length === last.length && inputs.every((input, i) => Object.is(input, last[i]))) return;
    last = inputs;
    f(...inputs);
  };
}

// Icons, drawn in a 16 x 16 box with strokes of the text's colour.
const ICONS = {
  queued: 'M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11M8 5v3.2l2.2 1.4',
  starting: 'M8 2.5a5.5 5.5 0 0 1 5.5 5.5M8 13.5A5.5 5.5 0 0 1 2.5 8',
  running: 'M5 3.2v9.6L12.8 8z',
  succeeded: 'M3 8.6l3.2 3.2L13 4.6',
  failed: 'M4 4l8 8M12 4l-8 8',
  cancelled: 'M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11M4.2 11.8l7.6-7.6',
  cancelling: 'M4.5 4.5h7v7h-7z',
  back: 'M9.8 3.2L5 8l4.8 4.8',
  warning: 'M8 2.2L14.4 13H1.6zM8 6.2v3.4M8 11.4v.2',
};

export function icon(name) {
  const path = svg('path', { d: ICONS[name], fill: 'none', stroke: 'currentColor', 'stroke-width': '1.7', 'stroke-linecap': 'round', 'stroke-linejoin': 'round' });
  return svg('svg', { viewBox: '0 0 16 16', class: `icon icon-${name}`, 'aria-hidden': 'true', focusable: 'false' }, path);
}
