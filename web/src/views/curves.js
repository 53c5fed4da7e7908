// Learning curves: loss and accuracy of training and test set over the epochs, live.
import { curveOption, pointCount } from '../charts.js';
import { h, show, whenChanged } from '../dom.js';
import { chart, readColors } from './chart.js';
import { sample, segments } from './parts.js';

function legend({ t }) {
  const row = (key, dash, filled, text) => h('li', {}, sample(key, dash, filled), text);
  const now = row('now', '2 3', null, t('curves.now'));
  const validation = row('validation', '2 2', false, t('curves.validation'));
  const node = h('ul', { class: 'legend' }, row('train', '5 3', false, t('curves.train')), validation, row('test', '', true, t('curves.test')), now);
  function update(job, run) {
    show(now, job.state === 'running');
    show(validation, run.epochs.some((epoch) => epoch.validation));
  }
  return { node, update };
}

function axisLabel(kind, fmt) {
  return kind === 'loss' ? (value) => fmt.significant(value) : (value) => fmt.percentShort(value);
}

export function curvesView(ctx) {
  const { t, fmt, actions } = ctx;
  const failed = h('p', { class: 'hint', hidden: true }, t('curves.failed'));
  const empty = h('p', { class: 'hint' }, t('curves.empty'));
  const charts = ['loss', 'accuracy'].map((kind) => ({ kind, title: t(`curves.${kind}`), chart: chart(() => show(failed, true)) }));
  const scale = segments({
    name: 'scale',
    label: t('curves.scale'),
    options: ['linear', 'log'].map((value) => ({ value, text: t(`curves.${value}`) })),
    onPick: (value) => actions.set('loss', value),
  });
  const lines = legend(ctx);
  const figures = charts.map((row) => h('figure', {}, h('figcaption', {}, h('h3', {}, row.title)), row.chart.node));
  const body = h('div', { class: 'curves' }, figures);
  const node = h('section', { class: 'card', 'aria-labelledby': 'curves-title' },
    h('div', { class: 'head' }, h('h2', { id: 'curves-title' }, t('curves.title')), lines.node, scale.node), failed, empty, body);

  function describe(row, epochs) {
    const value = row.kind === 'loss' ? fmt.loss : fmt.percent;
    const last = epochs[epochs.length - 1];
    if (!last) return t('curves.describe.none', { title: row.title });
    return t('curves.describe', { title: row.title, n: fmt.whole(epochs.length), train: value(last.train[row.kind]), test: value(last.test[row.kind]) });
  }

  const draw = whenChanged((epochs, live, planned, loss, _look) => {
    const colors = readColors(node);
    const texts = { train: t('curves.train'), validation: t('curves.validation'), test: t('curves.test'), now: t('curves.now'), epoch: t('curves.epoch') };
    for (const row of charts) {
      const option = curveOption(row.kind, {
        epochs, live, texts, colors, planned,
        logarithmic: loss === 'log',
        format: row.kind === 'loss' ? fmt.loss : fmt.percent,
        formatAxis: axisLabel(row.kind, fmt),
      });
      const points = Object.fromEntries(['train', 'validation', 'test', 'now'].map((id) => [`data-${id}-points`, pointCount(option, id)]));
      row.chart.set(option, describe(row, epochs), { 'data-kind': row.kind, ...points });
    }
  });

  function update(job, run, settings, look) {
    scale.update(settings.loss);
    lines.update(job, run);
    const something = run.epochs.length > 0 || run.live.length > 0;
    show(empty, !something);
    show(body, something);
    if (something) draw(run.epochs, run.live, job.epochs, settings.loss, look);
  }
  return { node, update, destroy: () => charts.forEach((row) => row.chart.destroy()) };
}
