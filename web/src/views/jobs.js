// The list of jobs.
import { h, keyed, setAttributes, setText, show } from '../dom.js';
import { listedJobs } from '../state.js';
import { formatHash, SETTINGS } from '../settings.js';
import { badge, copyButton, failedLoad, jobLine, jobTitle, progressBar, segments } from './parts.js';

function whereText(job, progress, { t, fmt }) {
  if (job.state === 'queued') return job.position === null ? '' : t('jobs.position', { place: fmt.whole(job.position + 1) });
  const epochs = t('jobs.epochs', { done: fmt.whole(job.epochs_done), all: fmt.whole(job.epochs) });
  if (job.state !== 'running' || typeof progress?.seconds_left !== 'number') return epochs;
  return `${epochs} · ${t('job.left')}: ${fmt.duration(progress.seconds_left)}`;
}

// A GPU's id is long: its beginning tells it from the others, the whole of it is in the tooltip.
function shortDevice(id) {
  return /^(GPU|MIG)-/.test(id ?? '') ? id.slice(0, 12) : id ?? '';
}

function jobRow(ctx) {
  const link = h('a', {});
  const line = h('p', { class: 'meta' });
  const state = badge(ctx);
  const bar = progressBar(ctx.t('jobs.progress'));
  const where = h('p', { class: 'meta' });
  const accuracy = h('dd', { class: 'figure' });
  const device = h('p', { class: 'meta device' });
  const node = h('li', { class: 'card job' },
    h('div', { class: 'job-name' }, h('h2', {}, link), line),
    h('div', { class: 'job-state' }, state.node, device),
    h('div', { class: 'job-progress' }, bar.node, where),
    h('dl', { class: 'job-accuracy' }, h('dt', {}, ctx.t('jobs.accuracy')), accuracy));

  function update({ job, state: all, settings }) {
    const progress = all.runs[job.id]?.progress ?? null;
    node.dataset.job = job.id;
    node.dataset.state = job.state;
    setText(link, jobTitle(all, job, ctx));
    link.href = formatHash({ view: 'job', id: job.id }, { lang: settings.lang, theme: settings.theme });
    setText(line, jobLine(all, job, ctx));
    state.update(job);
    setText(device, shortDevice(job.device));
    setAttributes(device, { title: job.device });
    bar.update(job, progress);
    setText(where, whereText(job, progress, ctx));
    setText(accuracy, ctx.fmt.percent(job.test_accuracy));
  }
  return { node, update };
}

function emptyState(ctx, settings) {
  const { t } = ctx;
  const command = `curl -H 'Content-Type: application/json' -d '{"dataset": "fashion-mnist", "model": "resnet20"}' ${location.origin}/v1/jobs`;
  return h('section', { class: 'card notice empty' },
    h('h2', {}, t('jobs.empty')),
    h('p', {}, t('jobs.empty.text')),
    h('pre', { class: 'command', tabindex: '0', 'aria-label': 'curl' }, h('code', {}, command)),
    h('p', { class: 'buttons' }, copyButton(() => command, ctx), h('a', { href: formatHash({ view: 'submit' }, settings), class: 'button' }, t('jobs.empty.form'))));
}

export function jobsView(ctx) {
  const { t, actions } = ctx;
  const filter = segments({
    name: 'filter',
    label: t('jobs.filter'),
    options: SETTINGS.state.values.map((value) => ({ value, text: t(`jobs.filter.${value}`) })),
    onPick: (value) => actions.set('state', value),
  });
  const list = h('ol', { class: 'jobs' });
  const rows = new Map();
  const message = h('div', {});
  const more = h('button', { type: 'button', on: { click: () => actions.loadMore() } }, t('jobs.more'));
  const node = h('div', { class: 'view view-jobs' }, h('div', { class: 'head' }, h('h1', { tabindex: '-1' }, t('jobs.title')), filter.node), message, list, h('p', { class: 'more' }, more));
  let shown = null;

  // What stands in place of the list: kind decides whether it must be made again.
  function notice(kind, make) {
    if (shown === kind) return;
    shown = kind;
    message.replaceChildren(...(make ? [make()] : []));
  }

  function updateNotice(state, settings, jobs) {
    const load = state.loads.jobs;
    if (load?.status === 'failed' && !state.list.loaded) return notice(load.error, () => failedLoad(load.error, ctx, () => actions.reload()));
    if (!state.list.loaded) return notice('loading', () => h('p', { class: 'loading', role: 'status' }, t('app.loading')));
    if (jobs.length) return notice('none', null);
    if (settings.state !== 'all') return notice('filter', () => h('p', { class: 'loading', role: 'status' }, t('jobs.empty.filter')));
    return notice('empty', () => emptyState(ctx, settings));
  }

  function update(state, settings) {
    filter.update(settings.state);
    const jobs = state.list.loaded ? listedJobs(state) : [];
    updateNotice(state, settings, jobs);
    keyed(list, rows, jobs.map((job) => ({ job, state, settings })), (item) => item.job.id, () => jobRow(ctx));
    show(list, jobs.length > 0);
    show(more.parentNode, state.list.next !== null);
  }
  return { node, update, title: () => t('jobs.title') };
}
