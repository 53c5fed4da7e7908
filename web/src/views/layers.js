// What every layer does in training: gradient norms, updates and activations along the network, first epoch against a chosen one.
import { h, show, whenChanged } from '../dom.js';
import { gradientRatio, layerOption, layerRows, layerValues, QUANTITIES } from '../layers.js';
import { chart, readColors } from './chart.js';
import { sample, segments } from './parts.js';

const TABLES = [['weights', ['gradient_norm', 'weight_norm', 'update_ratio']], ['activations', ['mean', 'deviation', 'dead']]];

function writer(quantity, fmt) {
  return quantity === 'dead' ? fmt.percentOne : fmt.significant;
}

function table(layers, [group, keys], { t, fmt }) {
  const head = h('tr', {}, h('th', { scope: 'col' }, t('layers.layer')), keys.map((key) => h('th', { scope: 'col' }, t(`layers.${key}`))));
  const row = (values) => h('tr', {}, h('th', { scope: 'row' }, values.name), keys.map((key) => h('td', {}, writer(key, fmt)(values[key]))));
  return h('table', { class: 'numbers', 'data-group': group }, h('caption', {}, t(`layers.caption.${group}`)), h('thead', {}, head), h('tbody', {}, layerRows(layers, group).map(row)));
}

// Says what the drawing shows: where the gradient stands between the first and the last layer.
function describe(quantity, epoch, { t, fmt }) {
  const values = layerValues(epoch.layers, quantity);
  const ends = { title: t(`layers.${quantity}`), n: fmt.whole(values.length), epoch: fmt.whole(epoch.epoch) };
  if (values.length === 0) return t('layers.describe.none', ends);
  const write = writer(quantity, fmt);
  return t('layers.describe', { ...ends, first: write(values[0].value), last: write(values[values.length - 1].value) });
}

export function layersView(ctx) {
  const { t, fmt, actions } = ctx;
  const failed = h('p', { class: 'hint', hidden: true }, t('curves.failed'));
  const drawing = chart(() => show(failed, true));
  const pick = segments({
    name: 'layers',
    label: t('layers.quantity'),
    options: Object.keys(QUANTITIES).map((value) => ({ value, text: t(`layers.${value}`) })),
    onPick: (value) => actions.set('layers', value),
  });
  const first = h('li', {});
  const selected = h('li', {});
  const ratio = h('p', { class: 'hint' });
  const tables = h('div', { class: 'tables' });
  const more = h('details', {}, h('summary', {}, t('layers.numbers')), h('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': t('layers.numbers') }, tables));
  const node = h('section', { class: 'card layers', 'aria-labelledby': 'layers-title' },
    h('div', { class: 'head' }, h('h2', { id: 'layers-title' }, t('layers.title')), h('ul', { class: 'legend' }, first, selected)),
    h('p', { class: 'hint' }, t('layers.hint')), pick.node, failed, drawing.node, ratio, more);

  const draw = whenChanged((start, epoch, quantity, _look) => {
    const name = (of) => t('layers.epoch', { epoch: fmt.whole(of.epoch) });
    const write = writer(quantity, fmt);
    first.replaceChildren(sample('train', '5 3', false), name(start));
    selected.replaceChildren(sample('test', '', true), name(epoch));
    show(first, start !== epoch);
    const texts = { first: name(start), selected: name(epoch), layer: t('layers.axis') };
    const option = layerOption(quantity, { first: start.layers, selected: epoch.layers, texts, colors: readColors(node), format: write, formatAxis: write });
    drawing.set(option, describe(quantity, epoch, ctx), { 'data-kind': 'layers', 'data-quantity': quantity, 'data-points': layerValues(epoch.layers, quantity).length });
  });
  const write = whenChanged((epoch, open) => {
    if (open) tables.replaceChildren(...TABLES.map((row) => table(epoch.layers, row, ctx)));
    const value = gradientRatio(epoch.layers);
    ratio.textContent = value === null ? '' : t('layers.ratio', { ratio: fmt.significant(value) });
  });
  let current = null;
  more.addEventListener('toggle', () => current && write(current, more.open));

  function update(run, settings, look) {
    const known = run.epochs.filter((epoch) => epoch.layers !== null);
    show(node, known.length > 0);
    if (known.length === 0) return;
    current = known.find((epoch) => epoch.epoch === settings.epoch) ?? known[known.length - 1];
    pick.update(settings.layers);
    draw(known[0], current, settings.layers, look);
    write(current, more.open);
  }
  return { node, update, destroy: () => drawing.destroy() };
}
