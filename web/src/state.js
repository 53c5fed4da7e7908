// The page's state: a pure function of snapshots (REST answers) and events (the stream). No DOM, no fetch, nothing is mutated.

export const ENDED = ['succeeded', 'failed', 'cancelled'];
export const ACTIVE = ['queued', 'starting', 'running'];

// Confusion matrices and softmax rows are kept for as many epochs as fit this many numbers; older ones are fetched when shown.
const DETAIL_NUMBERS_MAX = 400000;
const LIVE_POINTS_MAX = 400;
const ANSWERS_MAX = 16;

export function initialState() {
  return {
    cursor: 0, // newest event that the state contains
    connection: { status: 'connecting', since: null },
    jobs: {}, // id -> job, with `seen`: the event it is as new as
    runs: {}, // id -> {epochs, details, progress, live, complete}
    list: { filter: null, oldest: null, next: null, loaded: false },
    devices: null, // the answer of v1/devices: {items, state, reason}
    datasets: {},
    presets: {},
    version: null,
    loads: {}, // what -> {status: 'loading' | 'ready' | 'failed', error}
    logs: {}, // id -> text
    answers: {}, // what the page asked about a job besides, by key: graph, images, maps, filters; only the newest are kept
  };
}

export function emptyRun() {
  return { epochs: [], details: {}, progress: null, live: [], complete: false };
}

const put = (object, key, value) => ({ ...object, [key]: value });

function without(object, key) {
  const { [key]: gone, ...rest } = object;
  return rest;
}

function runOf(state, id) {
  return state.runs[id] ?? emptyRun();
}

// --- jobs ---

function trimRun(run, epochsDone) {
  if (!run.epochs.some((epoch) => epoch.epoch > epochsDone)) return run;
  const details = Object.fromEntries(Object.entries(run.details).filter(([epoch]) => Number(epoch) <= epochsDone));
  return { ...run, epochs: run.epochs.filter((epoch) => epoch.epoch <= epochsDone), details, progress: null, live: [] };
}

// A job as it was at event `seen`. Older news than what is known is ignored; links, cursor and position of an earlier
// snapshot survive an event, which does not carry them (a position only while the job stays queued).
function mergeJob(state, job, seen) {
  const known = state.jobs[job.id];
  if (known && known.seen > seen) return state;
  const position = job.state === 'queued' ? job.position ?? (known?.state === 'queued' ? known.position : null) : null;
  const jobs = put(state.jobs, job.id, { ...known, ...job, position: position ?? null, seen });
  let run = trimRun(runOf(state, job.id), job.epochs_done);
  if (job.state !== 'running' && run.progress) run = { ...run, progress: null, live: [] };
  return { ...state, jobs, runs: put(state.runs, job.id, run) };
}

function removeJob(state, id) {
  return { ...state, jobs: without(state.jobs, id), runs: without(state.runs, id), logs: without(state.logs, id) };
}

// --- epochs ---

export function summaryOf(epoch) {
  const pick = ({ loss, accuracy }) => ({ loss, accuracy });
  return {
    epoch: epoch.epoch,
    train: pick(epoch.train),
    validation: epoch.validation ? pick(epoch.validation) : null,
    test: pick(epoch.test),
    best: epoch.best ?? null,
    layers: epoch.layers ?? null,
    gpu: epoch.gpu ?? null,
    lr: epoch.lr,
    seconds: epoch.seconds,
    images_per_second: epoch.images_per_second,
  };
}

export function detailOf(epoch) {
  const { confusion = [], softmax = [], labels = [], accuracy, top5 = null, ece = null, report = null } = epoch.test;
  const confused = epoch.test.most_confused?.classes ?? [];
  return { epoch: epoch.epoch, confusion, softmax, labels, accuracy, top5, ece, report, confused };
}

function numbersIn(detail) {
  return detail.confusion.length * detail.confusion.length + detail.softmax.length * (detail.softmax[0]?.length ?? 0);
}

function insertSorted(epochs, summary) {
  const last = epochs[epochs.length - 1];
  if (!last || last.epoch < summary.epoch) return [...epochs, summary];
  const rest = epochs.filter((epoch) => epoch.epoch !== summary.epoch);
  return [...rest, summary].sort((a, b) => a.epoch - b.epoch);
}

// Keeps the detail just added and the newest others that fit.
function keepDetails(details, added) {
  const room = Math.max(2, Math.floor(DETAIL_NUMBERS_MAX / Math.max(1, numbersIn(added))));
  const all = put(details, added.epoch, added);
  const others = Object.keys(details).map(Number).filter((epoch) => epoch !== added.epoch).sort((a, b) => b - a);
  const kept = [added.epoch, ...others.slice(0, room - 1)];
  return Object.fromEntries(kept.map((epoch) => [epoch, all[epoch]]));
}

function addEpoch(run, epoch) {
  return {
    ...run,
    epochs: insertSorted(run.epochs, summaryOf(epoch)),
    details: keepDetails(run.details, detailOf(epoch)),
    live: run.progress && run.progress.epoch > epoch.epoch ? run.live : [],
  };
}

function addEpochs(state, id, items) {
  return { ...state, runs: put(state.runs, id, items.reduce(addEpoch, runOf(state, id))) };
}

// --- progress ---

// Running mean loss within the epoch that trains now, x in epochs; thinned to every second point when it grows too long.
function addLive(run, progress) {
  const fresh = !run.progress || run.progress.epoch !== progress.epoch;
  const live = fresh ? [] : run.live;
  if (progress.phase !== 'train' || progress.loss === null || !progress.steps) return live;
  const x = progress.epoch - 1 + progress.step / progress.steps;
  if (live.length && live[live.length - 1].x >= x) return live;
  const room = live.length < LIVE_POINTS_MAX ? live : live.filter((_, i) => i % 2 === 0);
  return [...room, { x, loss: progress.loss }];
}

function addProgress(state, id, progress) {
  const job = state.jobs[id];
  if (!job || job.state !== 'running' || progress.epoch <= job.epochs_done) return state;
  const run = runOf(state, id);
  return { ...state, runs: put(state.runs, id, { ...run, progress, live: addLive(run, progress) }) };
}

// --- events ---

function applyEvent(state, type, id, data) {
  if (type === 'job') return data.state === 'deleted' ? removeJob(state, data.id) : mergeJob(state, data, id);
  if (type === 'progress') return addProgress(state, data.job, data);
  const next = addEpochs(state, data.job, [data]);
  const job = next.jobs[data.job];
  if (!job || job.epochs_done >= data.epoch) return next;
  return { ...next, jobs: put(next.jobs, data.job, { ...job, epochs_done: data.epoch, test_accuracy: data.test.accuracy }) };
}

function reduceEvent(state, { id, event, data }) {
  if (id <= state.cursor) return state;
  return { ...applyEvent(state, event, id, data), cursor: id };
}

function reduceJobs(state, { items, next, cursor, filter, append }) {
  const merged = items.reduce((all, job) => mergeJob(all, job, cursor), state);
  const oldest = items.length ? items[items.length - 1].created : state.list.oldest;
  return { ...merged, list: { filter, next, loaded: true, oldest: append || items.length ? oldest : null } };
}

const REDUCERS = {
  reset: (state) => ({ ...initialState(), datasets: state.datasets, presets: state.presets, version: state.version }),
  filter: (state, { filter }) => ({ ...state, list: { filter, oldest: null, next: null, loaded: false } }),
  jobs: reduceJobs,
  job: (state, { job }) => mergeJob(state, job, job.cursor ?? 0),
  gone: (state, { id }) => removeJob(state, id),
  epochs: (state, { id, items }) => addEpochs(state, id, items),
  complete: (state, { id }) => ({ ...state, runs: put(state.runs, id, { ...runOf(state, id), complete: true }) }),
  event: reduceEvent,
  cursor: (state, { cursor }) => ({ ...state, cursor }),
  connection: (state, { status, since }) => ({ ...state, connection: { status, since } }),
  load: (state, { what, status, error = null }) => ({ ...state, loads: put(state.loads, what, { status, error }) }),
  answer: (state, { key, value }) => ({ ...state, answers: keepAnswer(state.answers, key, value) }),
  log: (state, { id, text }) => ({ ...state, logs: put(state.logs, id, text) }),
  devices: (state, { devices }) => ({ ...state, devices }),
  datasets: (state, { items }) => ({ ...state, datasets: byName(items) }),
  presets: (state, { items }) => ({ ...state, presets: byName(items) }),
  version: (state, { version }) => ({ ...state, version }),
};

function byName(items) {
  return Object.fromEntries(items.map((item) => [item.name, item]));
}

export function reduce(state, action) {
  return REDUCERS[action.type](state, action);
}

// --- answers ---

function keepAnswer(answers, key, value) {
  const others = Object.entries(answers).filter(([other]) => other !== key);
  return Object.fromEntries([...others.slice(1 - ANSWERS_MAX), [key, value]]);
}

// --- what the views ask ---

export function matchesFilter(job, filter) {
  if (filter === null || filter === 'all') return true;
  return filter === 'active' ? ACTIVE.includes(job.state) : job.state === filter;
}

// Jobs of the list, newest first. While older pages are not loaded, what is older than the loaded ones stays out.
export function listedJobs(state) {
  const { filter, next, oldest } = state.list;
  return Object.values(state.jobs)
    .filter((job) => matchesFilter(job, filter) && (next === null || oldest === null || job.created >= oldest))
    .sort((a, b) => (a.created < b.created ? 1 : a.created > b.created ? -1 : 0));
}

export function lastEpoch(state, id) {
  const epochs = state.runs[id]?.epochs ?? [];
  return epochs[epochs.length - 1] ?? null;
}

// Share of the whole job that is done, 0 to 1. The test pass is taken as a tenth of an epoch.
export function fractionDone(job, progress) {
  if (job.state === 'succeeded') return 1;
  const inEpoch = progress && progress.epoch === job.epochs_done + 1 && progress.steps > 0;
  const share = inEpoch ? progress.step / progress.steps : 0;
  const inner = inEpoch && progress.phase === 'test' ? 0.9 + 0.1 * share : 0.9 * share;
  return job.epochs > 0 ? Math.min(1, (job.epochs_done + inner) / job.epochs) : 0;
}

export function mayCancel(job) {
  return ACTIVE.includes(job.state) && !job.cancel_requested;
}
export function mayRetry(job) {
  return job.state === 'failed' || job.state === 'cancelled';
}
export function mayVerify(job) {
  return job.state === 'succeeded';
}
export function mayDelete(job) {
  return ENDED.includes(job.state);
}
