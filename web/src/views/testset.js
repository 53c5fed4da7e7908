// What the test set says after an epoch: a picker for the epoch, the confusion matrix and the softmax of single images.
import { h, setAttributes, setText, show, whenChanged } from '../dom.js';
import { confusionView, mostConfused, softmaxView } from '../metrics.js';
import { confusedList, reportTable } from './report.js';

const WORST = 4; // the exercise asks for the four most confused objects
const IMAGES_SHOWN = 6;
const STRONG = 0.74; // above it the text changes its colour: on both sides its contrast is at least 4.5
const NO_NAMES = []; // one array, so that "no names" stays the same value

function epochPicker({ t, fmt, actions }) {
  const range = h('input', { type: 'range', min: 1, step: 1, id: 'pick-epoch', on: { input: () => actions.set('epoch', Number(range.value)) } });
  const value = h('output', { for: 'pick-epoch' });
  const latest = h('button', { type: 'button', class: 'quiet', on: { click: () => actions.set('epoch', null) } }, t('pick.latest'));
  const node = h('div', { class: 'picker' }, h('label', { for: 'pick-epoch' }, t('pick.label')), range, value, latest);
  return {
    node,
    update(selected, last, following) {
      setAttributes(range, { max: last, disabled: last < 2 });
      range.value = String(selected);
      const text = t('pick.value', { epoch: fmt.whole(selected), last: fmt.whole(last) });
      setAttributes(range, { 'aria-valuetext': text });
      setText(value, text);
      latest.setAttribute('aria-pressed', String(following));
    },
  };
}

// Share of a colour: the root makes rare mistakes visible beside common ones.
function tint(cell) {
  return cell.correct ? cell.share : Math.sqrt(cell.share);
}

function confusionCell(cell, row, names, { t, fmt }) {
  const values = { actual: row.name, predicted: names[cell.predicted], count: fmt.whole(cell.count), share: fmt.percentOne(cell.share) };
  const title = t(cell.correct ? 'confusion.cell.right' : 'confusion.cell', values);
  const strength = tint(cell);
  const kind = cell.count === 0 ? 'zero' : cell.correct ? 'right' : 'wrong';
  const node = h('td', { class: `${kind}${strength > STRONG ? ' strong' : ''}`, title }, cell.count === 0 ? '·' : fmt.whole(cell.count));
  node.style.setProperty('--tint', String(Math.round(100 * strength) / 100));
  if (cell.count === 0) node.setAttribute('aria-label', '0');
  return node;
}

function confusionTable(view, ctx) {
  const { t, fmt } = ctx;
  const head = h('tr', {}, h('td', { class: 'corner' }, t('confusion.corner')),
    view.names.map((name) => h('th', { scope: 'col', title: name }, h('span', {}, name))), h('th', { scope: 'col', class: 'recall' }, h('span', {}, t('confusion.recall'))));
  const rows = view.rows.map((row) => h('tr', {}, h('th', { scope: 'row' }, row.name), row.cells.map((cell) => confusionCell(cell, row, view.names, ctx)),
    h('td', { class: 'recall' }, fmt.percentOne(row.recall))));
  const caption = t('confusion.caption', { correct: fmt.whole(view.correct), total: fmt.whole(view.total), accuracy: fmt.percent(view.total ? view.correct / view.total : null) });
  return h('table', { class: 'confusion', 'data-total': view.total, 'data-correct': view.correct }, h('caption', {}, caption), h('thead', {}, head), h('tbody', {}, rows));
}

function worstList(pairs, { t, fmt }) {
  if (pairs.length === 0) return h('p', { class: 'hint' }, t('confusion.none'));
  const row = (pair) => h('li', {}, h('span', { class: 'pair' }, t('confusion.pair', { actual: pair.actualName, predicted: pair.predictedName })),
    h('span', { class: 'count' }, `${fmt.whole(pair.count)} (${fmt.percentOne(pair.share)})`));
  return h('ol', { class: 'worst' }, pairs.map(row));
}

function softmaxBar(bar, { t, fmt }) {
  const fill = h('span', { class: 'fill' });
  fill.style.setProperty('--share', String(bar.share));
  const name = h('th', { scope: 'row' }, h('span', {}, bar.name), bar.actual ? h('span', { class: 'mark', title: t('softmax.istrue') }, '◂', h('span', { class: 'sr' }, t('softmax.istrue'))) : null);
  const text = bar.probability > 0 && bar.probability < 1e-6 ? t('softmax.below') : fmt.probability(bar.probability);
  return h('tr', { class: `${bar.actual ? 'actual' : ''} ${bar.predicted ? 'predicted' : ''}` }, name, h('td', { class: 'bar' }, h('span', { class: 'track' }, fill)), h('td', { class: 'value' }, text));
}

function softmaxImage(image, ctx) {
  const { t, fmt } = ctx;
  const verdict = image.correct === null ? null : h('span', { class: `verdict ${image.correct ? 'ok' : 'bad'}` }, image.correct ? `✓ ${t('softmax.right')}` : `✕ ${t('softmax.wrong')}`);
  const caption = h('caption', {},
    h('span', { class: 'line' }, h('strong', {}, t('softmax.image', { number: fmt.whole(image.number) })), verdict),
    image.actual === null ? null : h('span', { class: 'line' }, t('softmax.true', { name: image.actualName })),
    h('span', { class: 'line' }, t('softmax.predicted', { name: image.predictedName })));
  const head = h('thead', { class: 'sr' }, h('tr', {}, h('th', { scope: 'col' }, t('softmax.class')), h('th', { scope: 'col', colspan: 2 }, t('softmax.probability'))));
  const ticks = h('span', { class: 'ticks' }, ['10⁻⁶', '10⁻⁴', '10⁻²', '1'].map((text) => h('span', {}, text)));
  return h('table', { class: 'softmax', 'data-image': image.number }, caption, head, h('tbody', {}, image.bars.map((bar) => softmaxBar(bar, ctx))),
    h('tfoot', { 'aria-hidden': 'true' }, h('tr', {}, h('td', {}), h('td', {}, ticks), h('td', {}))));
}

// A button per image; those shown now are pressed.
function imagePicker(images, first, { t, fmt, actions }) {
  const button = (image) => {
    const shown = image.number >= first && image.number < first + IMAGES_SHOWN;
    const verdict = image.correct === null ? '' : t(image.correct ? 'softmax.right' : 'softmax.wrong');
    const label = t('softmax.pick', { number: image.number, verdict });
    const mark = image.correct === null ? null : h('span', { class: image.correct ? 'ok' : 'bad', 'aria-hidden': 'true' }, image.correct ? '✓' : '✕');
    return h('button', { type: 'button', class: 'chip', 'aria-pressed': String(shown), 'aria-label': label, 'data-first': image.number, on: { click: () => actions.set('image', image.number) } }, fmt.whole(image.number), mark);
  };
  return h('div', { class: 'chips' }, images.map(button));
}

export function testsetView(ctx) {
  const { t, actions } = ctx;
  const picker = epochPicker(ctx);
  const message = h('p', { class: 'hint', role: 'status' });
  const matrix = h('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': t('confusion.title') });
  const worst = h('div', {});
  const classesWorst = h('div', {});
  const report = h('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': t('report.title') });
  const chips = h('div', {});
  const images = h('div', { class: 'images' });
  const confusion = h('div', { class: 'confusion-block' }, h('div', {}, h('h3', {}, t('confusion.title')), matrix), h('div', { class: 'worst-lists' }, h('div', {}, h('h3', {}, t('confusion.classes')), classesWorst), h('div', {}, h('h3', {}, t('confusion.worst')), worst)));
  const reportBlock = h('div', { class: 'report-block' }, h('h3', {}, t('report.title')), report);
  const softmax = h('div', { class: 'softmax-block' }, h('h3', {}, t('softmax.title')), h('p', { class: 'hint' }, t('softmax.hint')), chips, images);
  const body = h('div', {}, confusion, reportBlock, softmax);
  const node = h('section', { class: 'card testset', 'aria-labelledby': 'testset-title' }, h('div', { class: 'head' }, h('h2', { id: 'testset-title' }, t('pick.title')), picker.node), message, body);

  const drawConfusion = whenChanged((detail, classes) => {
    matrix.replaceChildren(confusionTable(confusionView(detail.confusion, classes), ctx));
    worst.replaceChildren(worstList(mostConfused(detail.confusion, classes, WORST), ctx));
    classesWorst.replaceChildren(confusedList(detail, classes, WORST, ctx));
    report.replaceChildren(reportTable(detail, classes, ctx));
  });

  const drawSoftmax = whenChanged((detail, classes, first) => {
    const all = softmaxView(detail.softmax, detail.labels, classes);
    const focused = chips.contains(document.activeElement) ? document.activeElement.dataset.first : null;
    chips.replaceChildren(imagePicker(all, first, ctx));
    if (focused) chips.querySelector(`[data-first="${focused}"]`)?.focus();
    images.replaceChildren(...all.slice(first - 1, first - 1 + IMAGES_SHOWN).map((image) => softmaxImage(image, ctx)));
    if (all.length === 0) images.replaceChildren(h('p', { class: 'hint' }, t('softmax.none')));
  });

  function missingText(state, job, selected, last) {
    if (last === 0) return t('pick.none');
    const load = state.loads[`epoch/${job.id}/${selected}`];
    return t(load?.status === 'failed' || selected > last ? 'pick.missing' : 'pick.loading', { epoch: selected });
  }

  function update(state, job, run, settings) {
    const last = run.epochs.length ? run.epochs[run.epochs.length - 1].epoch : 0;
    const selected = settings.epoch ?? last;
    const detail = run.details[selected] ?? null;
    show(picker.node, last > 0);
    if (last > 0) picker.update(Math.min(selected, last), last, settings.epoch === null);
    show(body, detail !== null);
    show(message, detail === null);
    if (!detail) {
      setText(message, missingText(state, job, selected, last));
      if (run.complete && selected >= 1 && selected <= last) actions.needEpoch(job.id, selected);
      return;
    }
    node.dataset.epoch = String(selected);
    const classes = state.datasets[job.spec.dataset]?.classes ?? NO_NAMES;
    drawConfusion(detail, classes);
    drawSoftmax(detail, classes, Math.min(settings.image, Math.max(1, detail.softmax.length)));
  }
  return { node, update };
}
