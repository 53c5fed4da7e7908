// Inside the network: the test images as they are, the feature maps of a layer for one of them, and the first filters.
import { h, setAttributes, setText, show, whenChanged } from '../dom.js';
import { className } from '../metrics.js';
import { imageBytes, mapBytes } from '../pixels.js';
import { problemBox } from './parts.js';

const MAPPED = ['conv', 'batch_norm', 'group_norm', 'activation', 'add', 'concat', 'max_pool', 'avg_pool', 'shortcut'];
const CHANNELS_SHOWN = 64;
const VALUES_MAX = 65536; // of an answer
const NOTHING = []; // one array, so that "nothing" stays the same value

// A picture without a label says nothing that the text beside it does not say.
function picture({ width, height, bytes }, label = null) {
  const node = h('canvas', { width, height, ...(label === null ? { 'aria-hidden': 'true' } : { role: 'img', 'aria-label': label }) });
  node.getContext('2d').putImageData(new ImageData(bytes, width, height), 0, 0);
  return node;
}

function largest(row) {
  return row.reduce((best, value, i) => (value > row[best] ? i : best), 0);
}

// The first test images with true and predicted class; one is chosen to look at.
function imagesView(ctx) {
  const { t, fmt, actions } = ctx;
  const node = h('ul', { class: 'thumbs', 'aria-label': t('inside.images') });
  const thumb = (image, predicted, classes, chosen) => {
    const number = image.index + 1;
    const right = predicted === image.label;
    const verdict = predicted === null ? null : h('span', { class: right ? 'ok' : 'bad' }, h('span', { class: 'sr' }, t('inside.predicted')), `${right ? '✓' : '✕'} ${className(classes, predicted)}`);
    return h('li', {}, h('button', { type: 'button', class: 'thumb', 'aria-pressed': String(number === chosen), 'data-image': number, on: { click: () => actions.set('map', number) } },
      picture(imageBytes(image.pixels)), h('span', {}, h('span', { class: 'sr' }, t('softmax.image', { number: fmt.whole(number) })), ` ${className(classes, image.label)}`), verdict));
  };
  const draw = whenChanged((items, softmax, classes, chosen) => {
    const focused = node.contains(document.activeElement) ? document.activeElement.dataset.image : null;
    node.replaceChildren(...items.map((image) => thumb(image, softmax[image.index] ? largest(softmax[image.index]) : null, classes, chosen)));
    if (focused) node.querySelector(`[data-image="${focused}"]`)?.focus();
  });
  return { node, update: draw };
}

// How many of a layer's channels are shown: no more than an answer may hold.
function channelsShown([channels, height, width]) {
  return Math.max(1, Math.min(CHANNELS_SHOWN, channels, Math.floor(VALUES_MAX / (height * width))));
}

function layerPicker({ t, actions }) {
  const select = h('select', { id: 'pick-layer', on: { change: () => actions.set('layer', select.value) } });
  const node = h('p', { class: 'picker' }, h('label', { for: 'pick-layer' }, t('inside.layer')), select);
  const fill = whenChanged((nodes) => select.replaceChildren(...nodes.map((layer) => h('option', { value: layer.name }, t('inside.option', { name: layer.name, op: layer.op, shape: layer.shape.join(' × ') })))));
  return {
    node,
    update(nodes, chosen) {
      fill(nodes);
      select.value = chosen;
    },
  };
}

// Every channel of a layer as a small picture.
function layerFigure(layer, { t, fmt }) {
  const limit = Math.max(Math.abs(layer.min), Math.abs(layer.max));
  const maps = layer.values.map((rows, i) => picture(mapBytes(rows, limit), t('inside.channel', { number: fmt.whole(layer.channels[i]) })));
  const caption = t('inside.range', { name: layer.name, n: fmt.whole(layer.shape[0]), min: fmt.significant(layer.min), max: fmt.significant(layer.max) });
  return h('figure', { class: 'maps', 'data-layer': layer.name, 'data-maps': maps.length }, h('figcaption', {}, caption), h('div', { class: 'grid' }, maps));
}

function filtersFigure(filters, { t, fmt }) {
  const limit = Math.max(Math.abs(filters.min), Math.abs(filters.max));
  const maps = filters.values.flatMap((kernels, out) => kernels.map((rows, i) => picture(mapBytes(rows, limit), t('inside.filter', { out: fmt.whole(out), channel: fmt.whole(i) }))));
  const caption = t('inside.filters', { name: filters.layer, min: fmt.significant(filters.min), max: fmt.significant(filters.max) });
  return h('figure', { class: 'maps filters', 'data-maps': maps.length }, h('figcaption', {}, caption), h('div', { class: 'grid' }, maps));
}

// What the server was asked for: the answer, why there is none, or that it is on its way.
function answered(value, load, draw, ctx) {
  if (value) return draw(value);
  if (load?.status === 'failed') return problemBox(load.error, ctx);
  return h('p', { class: 'hint', role: 'status' }, ctx.t('app.loading'));
}

export function insideView(ctx) {
  const { t, fmt, actions } = ctx;
  const images = imagesView(ctx);
  const weights = h('p', { class: 'meta strong' });
  const problem = h('div', {});
  const layers = layerPicker(ctx);
  const maps = h('div', {});
  const filters = h('div', {});
  const body = h('div', { class: 'inside' }, weights, h('p', { class: 'hint' }, t('inside.hint')), problem, images.node, layers.node, maps, filters);
  const node = h('details', { class: 'card' }, h('summary', {}, h('h2', {}, t('inside.title'))), body);
  node.addEventListener('toggle', () => actions.set('inside', node.open ? 'open' : 'closed'));

  const drawMaps = whenChanged((value, load) => maps.replaceChildren(answered(value, load, (found) => h('div', {}, found.layers.map((layer) => layerFigure(layer, ctx))), ctx)));
  const drawFilters = whenChanged((value, load) => filters.replaceChildren(answered(value, load, (found) => filtersFigure(found, ctx), ctx)));
  const drawProblem = whenChanged((load) => problem.replaceChildren(...(load?.status === 'failed' ? [problemBox(load.error, ctx)] : [])));

  function drawLayer(state, job, graph, epoch, settings) {
    const nodes = graph.nodes.filter((layer) => MAPPED.includes(layer.op));
    const chosen = nodes.find((layer) => layer.name === settings.layer) ?? nodes[0];
    show(layers.node, chosen);
    if (!chosen) return;
    layers.update(nodes, chosen.name);
    const wanted = { epoch, image: settings.map - 1, layer: chosen.name, channels: channelsShown(chosen.shape) };
    const { key, what } = actions.needMaps(job.id, wanted);
    drawMaps(state.answers[key], state.loads[what]);
  }

  // The chosen epoch where its weights are kept, else the last one.
  function keptEpoch(state, job, last, wanted) {
    const { key } = actions.needWeights(job.id, last);
    const kept = state.answers[key]?.items.map((item) => item.epoch) ?? [];
    return kept.includes(wanted) ? wanted : last;
  }

  function drawEpoch(state, job, run, epoch, settings) {
    const asked = { graph: actions.needGraph(job.id), images: actions.needImages(job.id), filters: actions.needFilters(job.id, epoch) };
    setText(weights, t(settings.epoch === null || settings.epoch === epoch ? 'inside.epoch' : 'inside.other', { epoch: fmt.whole(epoch), chosen: fmt.whole(settings.epoch) }));
    drawProblem(state.loads[asked.images.what]);
    const found = state.answers[asked.images.key];
    if (found) images.update(found.items, run.details[epoch]?.softmax ?? NOTHING, state.datasets[job.spec.dataset]?.classes ?? NOTHING, settings.map);
    drawFilters(state.answers[asked.filters.key], state.loads[asked.filters.what]);
    const graph = state.answers[asked.graph.key];
    if (graph) drawLayer(state, job, graph, epoch, settings);
    setAttributes(node, { 'data-epoch': epoch });
  }

  function update(state, job, run, settings) {
    const last = run.epochs[run.epochs.length - 1];
    show(node, last);
    node.open = settings.inside === 'open';
    if (!last || !node.open) return;
    drawEpoch(state, job, run, keptEpoch(state, job, last.epoch, settings.epoch), settings);
  }
  return { node, update };
}
