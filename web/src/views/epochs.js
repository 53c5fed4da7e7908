// The table of epochs: the same numbers as the curves, for eyes, screen readers and copying.
import { h, keyed, setAttributes, setText, show, whenChanged } from '../dom.js';
import { formatHash } from '../settings.js';

function columns({ t, fmt }) {
  return [
    { name: t('epochs.trainloss'), text: (epoch) => fmt.loss(epoch.train.loss), set: 'train' },
    { name: t('epochs.validationloss'), text: (epoch) => fmt.loss(epoch.validation?.loss), set: 'validation', optional: true },
    { name: t('epochs.testloss'), text: (epoch) => fmt.loss(epoch.test.loss), set: 'test' },
    { name: t('epochs.trainaccuracy'), text: (epoch) => fmt.percent(epoch.train.accuracy), set: 'train' },
    { name: t('epochs.validationaccuracy'), text: (epoch) => fmt.percent(epoch.validation?.accuracy), set: 'validation', optional: true },
    { name: t('epochs.testaccuracy'), text: (epoch) => fmt.percent(epoch.test.accuracy), set: 'test' },
    { name: t('epochs.lr'), text: (epoch) => fmt.significant(epoch.lr) },
    { name: t('epochs.seconds'), text: (epoch) => fmt.one(epoch.seconds) },
    { name: t('epochs.rate'), text: (epoch) => fmt.whole(epoch.images_per_second) },
  ];
}

function epochRow(ctx, cols) {
  const link = h('a', {});
  const best = h('span', { class: 'best' }, ctx.t('epochs.best'));
  const cells = cols.map((column) => h('td', { class: column.optional ? 'optional' : null }));
  const node = h('tr', {}, h('th', { scope: 'row' }, link, best), cells);
  return {
    node,
    update({ epoch, selected, isBest, href }) {
      node.dataset.epoch = String(epoch.epoch);
      setText(link, ctx.fmt.whole(epoch.epoch));
      setAttributes(link, { href, 'aria-current': selected ? 'true' : null });
      show(best, isBest);
      cols.forEach((column, i) => setText(cells[i], column.text(epoch)));
    },
  };
}

// The best epoch as the job chose it by its validation set. Without one there is none: the test set chooses nothing.
function bestEpoch(epochs) {
  return epochs.reduce((best, epoch) => (epoch.best ? epoch.epoch : best), null);
}

export function epochsView(ctx) {
  const { t } = ctx;
  const cols = columns(ctx);
  const rows = new Map();
  const body = h('tbody', {});
  const head = h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, t('epochs.epoch')), cols.map((column) => h('th', { scope: 'col', class: `${column.set ? `set-${column.set}` : ''}${column.optional ? ' optional' : ''}` }, column.name))));
  const table = h('table', { class: 'epochs' }, h('caption', {}, t('epochs.caption')), head, body);
  const scroll = h('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': t('epochs.title') }, table);
  const empty = h('p', { class: 'hint' }, t('epochs.empty'));
  const node = h('section', { class: 'card', 'aria-labelledby': 'epochs-title' }, h('h2', { id: 'epochs-title' }, t('epochs.title')), empty, scroll);

  const draw = whenChanged((epochs, id, settings) => {
    const best = bestEpoch(epochs);
    const selected = settings.epoch ?? epochs[epochs.length - 1]?.epoch;
    const items = epochs.map((epoch) => ({
      epoch,
      selected: epoch.epoch === selected,
      isBest: epoch.epoch === best,
      href: formatHash({ view: 'job', id }, { ...settings, epoch: epoch.epoch }),
    }));
    keyed(body, rows, items, (item) => item.epoch.epoch, () => epochRow(ctx, cols));
  });

  function update(job, run, settings) {
    show(empty, run.epochs.length === 0);
    show(scroll, run.epochs.length > 0);
    table.classList.toggle('validated', run.epochs.some((epoch) => epoch.validation));
    draw(run.epochs, job.id, settings);
  }
  return { node, update };
}
