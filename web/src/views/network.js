// The model as a picture: layers with shapes and parameters, residual edges drawn bold. A layer leads to its feature maps.
import { h, show, svg, whenChanged } from '../dom.js';
import { BOX, layoutGraph, opText } from '../graph.js';
import { problemBox } from './parts.js';

function boxNode(box, { fmt, t }, onPick) {
  const numbers = box.parameters > 0 ? t('network.numbers', { shape: box.shape.join(' × '), n: fmt.whole(box.parameters) }) : box.shape.join(' × ');
  const line = (y, className, text) => {
    const node = svg('text', { x: box.x + 10, y: box.y + y, class: className });
    node.textContent = text;
    return node;
  };
  const group = svg('g', { class: `layer kind-${box.kind}`, 'data-layer': box.name }, svg('rect', { x: box.x, y: box.y, width: BOX.width, height: BOX.height, rx: 6 }),
    line(17, 'name', box.name), line(32, 'what', opText(box)), line(47, 'numbers', numbers));
  group.addEventListener('click', () => onPick(box.name));
  return group;
}

function drawing(layout, ctx, onPick) {
  const edges = layout.edges.map((edge) => svg('path', { d: edge.path, class: edge.skips ? 'edge skips' : 'edge', 'data-from': edge.from, 'data-to': edge.to }));
  const boxes = layout.boxes.map((box) => boxNode(box, ctx, onPick));
  const label = ctx.t('network.label', { layers: ctx.fmt.whole(layout.boxes.length), skips: ctx.fmt.whole(layout.edges.filter((edge) => edge.skips).length) });
  return svg('svg', { viewBox: `0 0 ${layout.width} ${layout.height}`, width: layout.width, height: layout.height, role: 'img', 'aria-label': label }, ...edges, ...boxes);
}

function table(graph, { t, fmt }) {
  const head = h('tr', {}, ['layer', 'op', 'inputs', 'shape', 'parameters', 'flops'].map((key) => h('th', { scope: 'col' }, t(`network.${key}`))));
  const row = (node) => h('tr', {}, h('th', { scope: 'row' }, node.name), h('td', {}, opText(node)), h('td', {}, node.inputs.join(', ')), h('td', {}, node.shape.join(' × ')),
    h('td', {}, fmt.whole(node.parameters)), h('td', {}, fmt.whole(node.flops)));
  return h('table', { class: 'numbers' }, h('thead', {}, head), h('tbody', {}, graph.nodes.map(row)));
}

export function networkView(ctx) {
  const { t, fmt, actions } = ctx;
  const message = h('div', {});
  const totals = h('p', { class: 'hint' });
  const picture = h('div', { class: 'scroll network-picture', tabindex: '0', role: 'group', 'aria-label': t('network.title') });
  const numbers = h('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': t('network.table') });
  const body = h('div', {}, totals, picture, h('details', {}, h('summary', {}, t('network.table')), numbers));
  const node = h('details', { class: 'card network' }, h('summary', {}, h('h2', {}, t('network.title'))), message, body);
  node.addEventListener('toggle', () => actions.set('network', node.open ? 'open' : 'closed'));

  function pick(layer) {
    actions.set('layer', layer);
    actions.set('inside', 'open');
  }
  const draw = whenChanged((graph) => {
    totals.textContent = t('network.totals', { parameters: fmt.whole(graph.parameters), flops: fmt.whole(graph.flops) });
    picture.replaceChildren(drawing(layoutGraph(graph), ctx, pick));
    numbers.replaceChildren(table(graph, ctx));
  });
  const say = whenChanged((load) => message.replaceChildren(...(load?.status === 'failed' ? [problemBox(load.error, ctx)] : [])));

  function update(state, job, settings) {
    node.open = settings.network === 'open';
    if (!node.open) return;
    const { key, what } = actions.needGraph(job.id);
    say(state.loads[what]);
    show(body, key in state.answers);
    if (key in state.answers) draw(state.answers[key]);
  }
  return { node, update };
}
