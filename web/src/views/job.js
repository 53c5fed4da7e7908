// The page of one job.
import { h, icon, setText, show, whenChanged } from '../dom.js';
import { ENDED, emptyRun, lastEpoch, mayCancel, mayDelete, mayRetry, mayVerify } from '../state.js';
import { formatHash } from '../settings.js';
import { curvesView } from './curves.js';
import { gpuText } from './devices.js';
import { epochsView } from './epochs.js';
import { insideView } from './inside.js';
import { layersView } from './layers.js';
import { networkView } from './network.js';
import { badge, confirmIn, fact, failedLoad, jobLine, jobTitle, problemBox, progressBar } from './parts.js';
import { testsetView } from './testset.js';

const EMPTY = emptyRun();

// Buttons that change the job. Each asks first, and shows the server's answer when it says no.
function actionsView(ctx, node, problem) {
  const { t, actions } = ctx;
  const kinds = [
    { name: 'cancel', may: mayCancel, danger: false },
    { name: 'retry', may: mayRetry, danger: false },
    { name: 'verify', may: mayVerify, danger: false },
    { name: 'delete', may: mayDelete, danger: true },
  ];
  let id = null;
  async function act(kind) {
    const yes = await confirmIn(node, { question: t(`job.${kind.name}.ask`), explanation: t(`job.${kind.name}.text`), yes: t(`job.${kind.name}`), no: t('job.keep'), danger: kind.danger });
    if (!yes) return;
    problem.replaceChildren();
    try {
      await actions[kind.name](id);
    } catch (error) {
      problem.replaceChildren(problemBox(error.problem, ctx));
    }
  }
  const buttons = kinds.map((kind) => ({ kind, node: h('button', { type: 'button', class: kind.danger ? 'danger-quiet' : '', 'data-action': kind.name, on: { click: () => act(kind) } }, t(`job.${kind.name}`)) }));
  return {
    node: h('div', { class: 'buttons' }, buttons.map((row) => row.node)),
    update(job) {
      id = job.id;
      buttons.forEach((row) => show(row.node, row.kind.may(job)));
    },
  };
}

function statusText(job, progress, { t, fmt }) {
  if (job.cancel_requested && !ENDED.includes(job.state)) return t('job.stopping');
  if (job.state === 'starting') return t('job.starting');
  if (job.state === 'queued') {
    if (job.position === null) return t('job.waiting');
    return job.position === 0 ? t('job.waiting.next') : t('job.waiting.place', { ahead: fmt.whole(job.position) });
  }
  if (job.state !== 'running' || !progress) return '';
  return t(`job.phase.${progress.phase}`, { step: fmt.whole(progress.step), steps: fmt.whole(progress.steps) });
}

function secondsBetween(from, to) {
  return from && to ? (new Date(to) - new Date(from)) / 1000 : null;
}

// Progress, and the numbers one wants to read across a room.
function nowView(ctx) {
  const { t, fmt } = ctx;
  const bar = progressBar(t('job.progress'));
  const status = h('p', { class: 'meta' });
  const epoch = h('p', { class: 'meta strong' });
  const accuracy = fact(t('job.accuracy'), 'big test');
  const rate = fact(t('job.rate'), 'big');
  const left = fact(t('job.left'), 'big');
  const duration = fact(t('job.duration'), 'big');
  const node = h('section', { class: 'card now', 'aria-label': t('job.progress') },
    h('div', { class: 'now-progress' }, h('div', { class: 'head' }, epoch, status), bar.node),
    h('dl', { class: 'tiles' }, accuracy.node, rate.node, left.node, duration.node));

  function update(job, run) {
    const last = run.epochs[run.epochs.length - 1];
    const ended = ENDED.includes(job.state);
    bar.update(job, run.progress);
    setText(epoch, t('jobs.epochs', { done: fmt.whole(job.epochs_done), all: fmt.whole(job.epochs) }));
    setText(status, statusText(job, run.progress, ctx));
    accuracy.set(fmt.percent(last?.test.accuracy));
    rate.set(fmt.whole(run.progress?.images_per_second ?? last?.images_per_second));
    left.set(ended ? null : fmt.duration(run.progress?.seconds_left));
    duration.set(ended ? fmt.duration(secondsBetween(job.started, job.ended)) : null);
  }
  return { node, update };
}

function reasonView({ t }) {
  const title = h('h2', {});
  const text = h('p', {});
  const code = h('code', {});
  const node = h('section', { class: 'card reason', 'aria-labelledby': 'reason-title' }, title, text, h('p', { class: 'meta' }, code));
  title.id = 'reason-title';
  return {
    node,
    update(job) {
      show(node, job.reason !== null);
      if (job.reason === null) return;
      node.dataset.state = job.state;
      setText(title, t(job.state === 'failed' ? 'job.reason.failed' : 'job.reason.other'));
      setText(text, job.reason.text);
      setText(code, job.reason.code);
    },
  };
}

function attemptText(job, { t, fmt }) {
  const attempt = fmt.whole(job.attempt);
  const resumed = job.worker?.resumed;
  return resumed ? t('job.resumed', { attempt, epoch: fmt.whole(resumed.epoch) }) : attempt;
}

// What came of running the job again, or of this job as the second run.
function verificationText(job, { t, fmt }) {
  if (!job.verification) return null;
  const { result, epoch } = job.verification;
  return t(`job.verification.${result}`, { epoch: fmt.whole(epoch) });
}

function epochsText(job, { t, fmt }) {
  if (job.best_epoch === null || job.best_epoch === undefined) return null;
  const best = t('job.best', { epoch: fmt.whole(job.best_epoch) });
  return job.stopped_early ? `${best} ${t('job.early', { done: fmt.whole(job.epochs_done) })}` : best;
}

// What the GPU used for all finished epochs; null where it does not tell.
function energyText(run, { t, fmt }) {
  const joules = run.epochs.map((epoch) => epoch.gpu?.energy_j);
  if (!joules.length || joules.some((value) => typeof value !== 'number')) return null;
  return t('job.energy.text', { value: fmt.significant(joules.reduce((sum, value) => sum + value, 0) / 3600) });
}

// What a finished epoch leaves behind, to take home.
function filesView({ t }) {
  const files = [
    ['weights/last', 'files.last', (job) => job.epochs_done > 0],
    ['weights/best', 'files.best', (job) => job.best_epoch],
    ['predictions', 'files.predictions', (job) => job.state === 'succeeded'],
    ['receipt', 'files.receipt', (job) => job.epochs_done > 0],
  ].map(([path, key, may]) => ({ path, may, link: h('a', {}, t(key)) }));
  const items = files.map((file) => ({ ...file, node: h('li', {}, file.link) }));
  const node = h('div', {}, h('h3', {}, t('files.title')), h('ul', { class: 'files' }, items.map((item) => item.node)));
  return {
    node,
    update(job) {
      show(node, job.epochs_done > 0);
      for (const { path, may, link, node: item } of items) {
        link.href = `v1/jobs/${job.id}/${path}`;
        show(item, may(job));
      }
    },
  };
}

function factsView(ctx) {
  const { t, fmt } = ctx;
  const rows = [
    ['job.id', (job) => job.id],
    ['job.owner', (job) => job.owner],
    ['job.device', (job) => job.worker?.device ?? job.device],
    ['job.backend', ({ worker }) => worker && t(worker.backend === 'cudnn' ? 'job.backend.gpu' : 'job.backend.text', { backend: `${worker.backend} ${worker.backend_version}`, precision: worker.precision, threads: worker.threads })],
    ['job.gpu', (job, run) => gpuText(run.progress?.gpu ?? run.epochs[run.epochs.length - 1]?.gpu, ctx)],
    ['job.energy', (job, run) => energyText(run, ctx)],
    ['job.parameters', ({ worker }) => worker && fmt.whole(worker.parameters)],
    ['job.memory', ({ worker }) => worker && fmt.megabytes(worker.memory_bytes)],
    ['job.epochs', (job) => epochsText(job, ctx)],
    ['job.verifies', (job) => job.verifies],
    ['job.from', (job) => (job.spec.from ? t(job.spec.from.resume ? 'job.from.resume' : 'job.from.weights', { job: job.spec.from.job, epoch: fmt.whole(job.spec.from.epoch) }) : null)],
    ['job.verification', (job) => verificationText(job, ctx)],
    ['job.attempt', (job) => (job.attempt ? attemptText(job, ctx) : null)],
    ['job.created', (job) => fmt.dateTime(job.created)],
    ['job.started', (job) => job.started && fmt.dateTime(job.started)],
    ['job.ended', (job) => job.ended && fmt.dateTime(job.ended)],
  ].map(([key, text]) => ({ text, fact: fact(t(key)) }));
  const files = filesView(ctx);
  const node = h('section', { class: 'card', 'aria-labelledby': 'facts-title' }, h('h2', { id: 'facts-title' }, t('job.facts')), h('dl', { class: 'facts' }, rows.map((row) => row.fact.node)), files.node);
  function update(job, run) {
    rows.forEach((row) => row.fact.set(row.text(job, run)));
    files.update(job);
  }
  return { node, update };
}

// Log and specification open on demand; the log of a failed job is open from the start and is read again when the job moves on.
function detailsView(ctx) {
  const { t, actions } = ctx;
  const log = h('pre', { class: 'log', tabindex: '0', 'aria-label': t('log.title') });
  const problem = h('div', {});
  const logBox = h('details', { class: 'card' }, h('summary', {}, h('h2', {}, t('log.title'))), problem, log);
  const spec = h('pre', { tabindex: '0', 'aria-label': t('spec.title') });
  const specBox = h('details', { class: 'card' }, h('summary', {}, h('h2', {}, t('spec.title'))), h('p', { class: 'hint' }, t('spec.hint')), spec);
  let current = null;
  const read = () => { if (logBox.open && current) actions.loadLog(current.id); };
  logBox.addEventListener('toggle', read);

  const writeLog = whenChanged((text) => {
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
    setText(log, text === '' ? t('log.empty') : text ?? t('app.loading'));
    if (atEnd) log.scrollTop = log.scrollHeight;
  });
  const writeProblem = whenChanged((load) => problem.replaceChildren(...(load?.status === 'failed' ? [problemBox(load.error, ctx)] : [])));
  const reread = whenChanged((state) => {
    if (state === 'failed') logBox.open = true;
    read();
  });
  const writeSpec = whenChanged((value) => setText(spec, JSON.stringify(value, null, 2)));

  function update(state, job) {
    current = job;
    reread(job.state, job.attempt, job.epochs_done);
    writeLog(state.logs[job.id]);
    writeProblem(state.loads[`log/${job.id}`]);
    writeSpec(job.spec);
  }
  return { nodes: [logBox, specBox], update };
}

// Tells a screen reader of state changes and finished epochs, not of every step.
function announcer(ctx) {
  const { t, fmt } = ctx;
  const node = h('p', { class: 'sr', role: 'status' });
  let known = null;
  return {
    node,
    update(state, job) {
      const next = `${job.state}/${job.epochs_done}`;
      if (known === next) return;
      const first = known === null;
      const moved = !first && !known.startsWith(`${job.state}/`);
      known = next;
      if (first) return;
      const last = lastEpoch(state, job.id);
      const epoch = last ? t('job.announce.epoch', { epoch: fmt.whole(last.epoch), epochs: fmt.whole(job.epochs), accuracy: fmt.percent(last.test.accuracy) }) : '';
      const moves = moved ? t('job.announce', { name: jobTitle(state, job, ctx), state: t(`state.${job.state}`) }) : '';
      setText(node, `${moves} ${epoch}`.trim());
    },
  };
}

function header(ctx, node) {
  const title = h('h1', { tabindex: '-1' });
  const line = h('p', { class: 'meta' });
  const state = badge(ctx);
  const problem = h('div', {});
  const buttons = actionsView(ctx, node, problem);
  const box = h('header', { class: 'job-head' }, h('div', {}, h('div', { class: 'title' }, title, state.node), line), buttons.node);
  return {
    nodes: [box, problem],
    update(all, job) {
      setText(title, jobTitle(all, job, ctx));
      setText(line, jobLine(all, job, ctx));
      state.update(job);
      buttons.update(job);
    },
  };
}

export function jobView(ctx, id) {
  const { t, actions } = ctx;
  const back = h('a', { class: 'back' }, icon('back'), t('job.back'));
  const message = h('div', {});
  const node = h('div', { class: 'view view-job' }, back, message);
  const content = h('div', { class: 'content' });
  const head = header(ctx, node);
  const parts = { now: nowView(ctx), reason: reasonView(ctx), curves: curvesView(ctx), testset: testsetView(ctx), layers: layersView(ctx), network: networkView(ctx), inside: insideView(ctx), epochs: epochsView(ctx), facts: factsView(ctx), details: detailsView(ctx), announce: announcer(ctx) };
  content.append(...head.nodes, parts.announce.node, parts.reason.node, parts.now.node, parts.curves.node, parts.testset.node, parts.layers.node, parts.network.node, parts.inside.node, parts.epochs.node, parts.facts.node, ...parts.details.nodes);
  node.append(content);

  const placeholder = whenChanged((job, load) => {
    show(content, job);
    if (job) return message.replaceChildren();
    if (load?.status === 'loading' || !load) return message.replaceChildren(h('p', { class: 'loading', role: 'status' }, t('app.loading')));
    if (load.status === 'failed' && load.error.status !== 404) return message.replaceChildren(failedLoad(load.error, ctx, () => actions.reload()));
    return message.replaceChildren(h('section', { class: 'card notice' }, h('h1', { tabindex: '-1' }, t('error.nojob')), h('p', {}, t('error.nojob.text')), h('a', { href: '#/jobs', class: 'button' }, t('error.tojobs'))));
  });

  function update(state, settings, look) {
    const job = state.jobs[id] ?? null;
    back.href = formatHash({ view: 'jobs' }, { lang: settings.lang, theme: settings.theme });
    placeholder(job !== null, state.loads[`job/${id}`]);
    if (job === null) return;
    const run = state.runs[id] ?? EMPTY;
    node.dataset.state = job.state;
    head.update(state, job);
    parts.now.update(job, run);
    parts.reason.update(job);
    parts.curves.update(job, run, settings, look);
    parts.testset.update(state, job, run, settings);
    parts.layers.update(run, settings, look);
    parts.network.update(state, job, settings);
    parts.inside.update(state, job, run, settings);
    parts.epochs.update(job, run, settings);
    parts.facts.update(job, run);
    parts.details.update(state, job);
    parts.announce.update(state, job);
  }

  function title(state) {
    const job = state.jobs[id];
    return job ? `${t(`state.${job.state}`)}: ${jobTitle(state, job, ctx)}` : t('job.id');
  }
  function destroy() {
    parts.curves.destroy();
    parts.layers.destroy();
  }
  return { node, update, title, destroy };
}
