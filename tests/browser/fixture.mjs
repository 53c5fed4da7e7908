// A stand-in for the daemon with states that a real one does not give on demand: serves the page under the daemon's headers, and
// jobs, epochs and a stream from deterministic data. Run by itself it listens until it is killed:
//   node tests/browser/fixture.mjs [PORT [--empty | --broken]]
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WEB } from './daemon.mjs';

export const HEADERS = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
};
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml', '.txt': 'text/plain; charset=utf-8' };
const CLASSES = ['T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot'];
const LABELS = [9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4, 5, 7, 3, 4, 1, 2, 4, 8, 0, 2, 5, 7, 9, 1];
const LOOK_ALIKE = [[0, 6], [2, 4], [2, 6], [4, 6], [3, 6], [5, 7], [7, 9]];

// A small generator (mulberry32), so that every run shows the same.
function generator(seed) {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function confusionAt(epoch, random) {
  const errors = 0.5 * Math.exp(-epoch / 2) + 0.16;
  return CLASSES.map((_, actual) => {
    const row = CLASSES.map(() => 0);
    for (let i = 0; i < 1000; i += 1) {
      const others = LOOK_ALIKE.filter((pair) => pair.includes(actual)).map(([a, b]) => (a === actual ? b : a));
      const wrong = random() < errors * (others.length ? 0.3 + 0.25 * others.length : 0.08);
      const other = random() < 0.85 && others.length ? others[Math.floor(random() * others.length)] : Math.floor(random() * 10);
      row[wrong ? other : actual] += 1;
    }
    return row;
  });
}

function softmaxRow(label, epoch, random) {
  const logits = CLASSES.map((_, i) => 4 * random() - 2 + (i === label ? 2 + epoch * 1.6 * random() : 0) + (LOOK_ALIKE.some((p) => p.includes(i) && p.includes(label)) ? 2.5 : 0) - 6 * random());
  const sum = logits.reduce((total, value) => total + Math.exp(value), 0);
  return logits.map((value) => Math.exp(value) / sum);
}

const ratio = (part, whole) => (whole ? part / whole : 0);

function reportOf(confusion) {
  const columns = confusion.map((_, i) => confusion.reduce((total, row) => total + row[i], 0));
  const support = confusion.map((row) => row.reduce((total, value) => total + value, 0));
  const precision = confusion.map((row, i) => ratio(row[i], columns[i]));
  const recall = confusion.map((row, i) => ratio(row[i], support[i]));
  const f1 = precision.map((p, i) => ratio(2 * p * recall[i], p + recall[i]));
  const mean = (values) => values.reduce((total, value) => total + value, 0) / values.length;
  const average = { precision: mean(precision), recall: mean(recall), f1: mean(f1) };
  return { precision, recall, f1, support, macro: average, weighted: average }; // all classes have the same support
}

function confusedOf(confusion) {
  const errors = confusion.map((row, i) => ({ class: i, count: row.reduce((total, value, k) => total + (k === i ? 0 : value + confusion[k][i]), 0) }));
  return { pairs: [], classes: errors.sort((a, b) => b.count - a.count).slice(0, 10) };
}

// Twenty layers whose gradient falls towards the first one; of two columns the last layer has no value.
function layersOf(epoch) {
  const names = Array.from({ length: 20 }, (_, i) => `layer${1 + Math.floor(i / 7)}.${i % 7}.conv1`);
  const column = (f) => names.map((_, i) => f(i));
  return {
    weights: { name: names, gradient_norm: column((i) => 1e-5 * epoch * 3 ** (i / 2)), weight_norm: column((i) => 3 + i), update_ratio: column((i) => (i === 19 ? null : 1e-3)) },
    activations: { name: names, mean: column(() => 0.4), deviation: column((i) => 1 + i / 20), dead: column((i) => (i === 19 ? null : i / 40)) },
  };
}

const SIDE = 8; // of the stand-in's images and maps
const plane = (f) => Array.from({ length: SIDE }, (_, y) => Array.from({ length: SIDE }, (_, x) => f(y, x)));

function imagesOf(n) {
  return LABELS.slice(0, n).map((label, index) => ({ index, label, pixels: [plane((y, x) => (16 * (x + y) + 9 * label) % 256)] }));
}

const GRAPH = {
  title: 'ResNet-20', parameters: 269434, flops: 1,
  nodes: [['input', 'input', 1, []], ['conv1', 'conv', 16, ['input']], ['act1', 'activation', 16, ['conv1']], ['layer1.0.conv1', 'conv', 16, ['act1']], ['layer1.0.add', 'add', 16, ['layer1.0.conv1', 'act1']], ['fc', 'linear', 10, ['layer1.0.add']], ['loss', 'softmax_cross_entropy', 10, ['fc']]]
    .map(([name, op, channels, inputs]) => ({ name, op, inputs, shape: [channels, SIDE, SIDE], parameters: op === 'conv' ? 2304 : 0, flops: 9, activation_bytes: 0, attributes: {} })),
};

function mapsOf(query) {
  const [name, image] = [query.get('layer'), Number(query.get('image'))];
  const values = Array.from({ length: 16 }, (_, c) => plane((y, x) => Math.sin(c + image + x) * (y - 3)));
  return { epoch: Number(query.get('epoch')), image: { index: image, label: LABELS[image] }, layers: [{ name, op: 'conv', shape: [16, SIDE, SIDE], min: -4, max: 4, channels: values.map((_, c) => c), values }] };
}

function filtersOf(epoch) {
  const kernel = (o) => [[0, 1, 0], [1, -o / 4, 1], [0, 1, 0]];
  return { epoch, layer: 'conv1', shape: [16, 1, 3, 3], min: -4, max: 1, values: Array.from({ length: 16 }, (_, o) => [kernel(o)]) };
}

export function epochOf(job, epoch) {
  const random = generator(epoch * 7919 + job.spec.seed);
  const confusion = confusionAt(epoch, random);
  const accuracy = confusion.reduce((total, row, i) => total + row[i], 0) / 10000;
  return {
    job: job.id,
    epoch,
    train: { loss: 0.16 + 0.75 * Math.exp(-epoch / 1.6) + 0.01 * random(), accuracy: 0.95 - 0.3 * Math.exp(-epoch / 1.7) },
    test: { loss: 0.22 + 0.65 * Math.exp(-epoch / 1.4) + 0.03 * random(), accuracy, top5: 0.99, ece: 0.021, confusion, report: reportOf(confusion), most_confused: confusedOf(confusion), softmax: LABELS.map((label) => softmaxRow(label, epoch, random)), labels: LABELS },
    validation: job.spec.validation_fraction ? { loss: 0.24 + 0.6 * Math.exp(-epoch / 1.4), accuracy: accuracy - 0.004, top5: 0.99 } : null,
    layers: layersOf(epoch),
    weights_sha256: '0'.repeat(64),
    best: job.spec.validation_fraction ? true : null,
    lr: 0.1 * Math.max(4e-7, 1 - epoch / job.epochs),
    seconds: 31 + random(),
    images_per_second: 1890 + 60 * random(),
  };
}

const spec = (extra = {}) => ({
  name: '', dataset: 'fashion-mnist', pad: 2,
  model: { preset: 'resnet20' },
  epochs: 5, batch_size: 128, seed: 1, precision: 'f32', backend: 'auto', threads: 2,
  optimizer: { kind: 'sgd', momentum: 0.9, weight_decay: 0.0001, nesterov: false },
  schedule: { kind: 'one_cycle', lr: 0.1, warmup_fraction: 0.3, div_factor: 25, final_div_factor: 10000 },
  augment: { crop: 4, flip: true }, train_limit: 0, test_limit: 0, ...extra,
});
const WORKER = { backend: 'onednn', backend_version: '2.6.3', device: 'AMD EPYC 9B45', precision: 'f32', threads: 2, parameters: 269434, memory_bytes: 157286400, resumed: null };

// A processor, a GPU at work and one that failed.
const GPU = { name: 'NVIDIA H100 80GB HBM3', threads: 1, memory_bytes: 85024112640, memory_free_bytes: 84439990272, compute: '9.0', driver: '580.65.06', note: 'not yet run on hardware by us', backends: [{ name: 'cudnn', version: '9.19.0', precisions: ['f32', 'bf16', 'tf32'] }], unusable: [] };
const devicesOf = () => [
  { ...GPU, id: 'GPU-11111111-2222-3333-4444-555555555555', state: 'busy', job: null, reason: null, telemetry: { temperature_c: 61, utilization: 0.93, power_w: 412, memory_used_bytes: 4294967296 }, self_check: { passed: true, at: '2026-11-24T08:00:00Z', driver: '580.65.06', features: [] } },
  { ...GPU, id: 'GPU-99999999-2222-3333-4444-555555555555', state: 'drained', job: null, reason: 'the driver reports 2 uncorrectable memory errors; have the GPU examined', telemetry: null, self_check: null },
  { id: 'cpu', name: 'AMD EPYC 9B45', threads: 2, memory_bytes: 25769803776, memory_free_bytes: null, compute: null, driver: null, note: null, backends: [{ name: 'onednn', version: '2.6.3', precisions: ['f32', 'bf16'] }], unusable: [{ name: 'ref', reason: 'the backend ref is not installed' }, { name: 'cudnn', reason: 'no NVIDIA driver' }], state: 'ready', job: null, reason: null, telemetry: null, self_check: null },
];

const accuracyOf = (job) => (job.epochs_done ? epochOf(job, job.epochs_done).test.accuracy : null);

export class Fixture {
  constructor({ empty = false, broken = false } = {}) {
    this.broken = broken; // every API answer is an error
    this.jobs = [];
    this.events = [];
    this.clients = new Set();
    this.devices = devicesOf();
    if (!empty) this.addExamples();
  }

  addExamples() {
    const ended = (minutes) => new Date(Date.UTC(2026, 10, 24, 6, minutes)).toISOString();
    this.addJob({ state: 'succeeded', epochs_done: 5, spec: spec({ name: 'ResNet-20, first try' }), ended: ended(34) });
    this.addJob({ state: 'failed', epochs_done: 2, spec: spec({ name: 'Learning rate too high', model: { ...spec().model, preset: 'plain56', norm: 'none' } }), ended: ended(37), reason: { code: 'non-finite-loss', text: 'The training loss became NaN in epoch 3, step 117. The learning rate 2 is too high for a network without normalization; try 0.05.' } });
    this.addJob({ state: 'cancelled', epochs_done: 1, spec: spec({ seed: 7 }), ended: ended(41) });
    this.live = this.addJob({ state: 'running', epochs_done: 2, spec: spec({ seed: 2, epochs: 8, validation_fraction: 0.1 }) });
    this.addJob({ state: 'queued', epochs_done: 0, spec: spec({ model: { ...spec().model, preset: 'resnet56' }, precision: 'bf16', epochs: 20 }) });
    this.addJob({ state: 'queued', epochs_done: 0, spec: spec({ name: '<b>plain</b> against residual, all the same seeds', model: { ...spec().model, preset: 'plain20' } }) });
  }

  addJob(values) {
    const n = this.jobs.length + 1;
    const created = new Date(Date.UTC(2026, 10, 24, 6, 30 + n, 12)).toISOString();
    const began = values.state !== 'queued';
    const job = {
      id: `job_${String(n).padStart(22, 'abcdefghijklmnopqrstu')}`, owner: 'local', name: values.spec.name, attempt: began ? 1 : 0,
      epochs: values.spec.epochs, device: began ? 'cpu' : null, worker: began ? WORKER : null, reason: null, cancel_requested: false, best_epoch: null,
      stopped_early: false, verifies: null, verification: null, created, started: began ? created : null, ended: null, ...values,
    };
    this.jobs.push(job);
    return job;
  }

  snapshot(job) {
    const ahead = this.jobs.filter((other) => other.state === 'queued').indexOf(job);
    return { ...job, test_accuracy: accuracyOf(job), position: ahead < 0 ? null : ahead, cursor: this.events.length, links: {} };
  }

  // --- what happens ---

  send(event, data) {
    this.events.push({ id: this.events.length + 1, event, data });
    for (const client of this.clients) client.write(this.wire(this.events[this.events.length - 1]));
  }
  wire({ id, event, data }) {
    return `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
  }
  change(job, values) {
    Object.assign(job, values);
    this.send('job', { ...job, test_accuracy: accuracyOf(job) });
  }
  progress(job, step, steps = 469, phase = 'train') {
    const epoch = job.epochs_done + 1;
    const loss = 0.16 + 0.75 * Math.exp(-(epoch - 1 + 0.9 * (step / steps)) / 1.6) + 0.02 * Math.sin(step);
    const left = (job.epochs - epoch + 1 - step / steps) * 33;
    this.send('progress', { job: job.id, epoch, epochs: job.epochs, phase, step, steps, loss, images_per_second: 1912.4, seconds_left: left });
  }
  finishEpoch(job) {
    job.epochs_done += 1;
    this.send('epoch', epochOf(job, job.epochs_done));
    if (job.epochs_done === job.epochs) this.change(job, { state: 'succeeded', ended: new Date().toISOString() });
  }

  // --- HTTP ---

  answer(response, status, body, type = 'application/json') {
    response.writeHead(status, { ...HEADERS, 'Content-Type': type });
    response.end(body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body));
  }
  problem(response, status, title, detail, errors) {
    this.answer(response, status, { type: '/problems/x', title, status, detail, instance: 'fixture', ...(errors ? { errors } : {}) }, 'application/problem+json');
  }

  async file(path, response) {
    const name = normalize(path === '/' ? '/index.html' : path);
    try {
      const body = await readFile(join(WEB, name));
      response.writeHead(200, { ...HEADERS, 'Content-Type': TYPES[extname(name)] ?? 'application/octet-stream' });
      response.end(body);
    } catch {
      this.problem(response, 404, 'Not found', `no ${path}`);
    }
  }

  stream(url, request, response) {
    const after = Number(request.headers['last-event-id'] ?? url.searchParams.get('after') ?? this.events.length);
    response.writeHead(200, { ...HEADERS, 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    response.write(': ok\nretry: 300\n\n' + this.events.filter((event) => event.id > after).map((event) => this.wire(event)).join(''));
    this.clients.add(response);
    response.on('close', () => this.clients.delete(response));
  }

  list(url, response) {
    const states = url.searchParams.get('state')?.split(',');
    const items = this.jobs.filter((job) => !states || states.includes(job.state)).map((job) => this.snapshot(job)).reverse();
    const before = Number(url.searchParams.get('before') ?? 0);
    const page = items.slice(before, before + 50);
    this.answer(response, 200, { items: page, next: before + 50 < items.length ? String(before + 50) : null, cursor: this.events.length });
  }

  job(job, rest, method, url, response) {
    const epochs = Array.from({ length: job.epochs_done }, (_, i) => i + 1);
    if (method === 'DELETE') {
      this.jobs.splice(this.jobs.indexOf(job), 1);
      this.send('job', { id: job.id, state: 'deleted' });
      return this.answer(response, 204);
    }
    if (rest === 'verify') {
      const again = this.addJob({ state: 'queued', epochs_done: 0, spec: job.spec, verifies: job.id, verification: { result: 'pending', epoch: null, job: job.id } });
      this.change(job, { verification: { result: 'pending', epoch: null, job: again.id } });
      this.send('job', { ...again });
      return this.answer(response, 202, this.snapshot(again));
    }
    if (rest === 'cancel') this.change(job, { state: 'cancelled', ended: new Date().toISOString() });
    if (rest === 'retry') this.change(job, { state: 'queued', ended: null, reason: null });
    if (rest === 'weights') return this.answer(response, 200, { items: [{ epoch: job.epochs_done, bytes: 1, sha256: '0'.repeat(64), last: true, best: true }] });
    if (rest === 'graph') return this.answer(response, 200, GRAPH);
    if (rest === 'images') return this.answer(response, 200, { items: imagesOf(Number(url.searchParams.get('n'))) });
    if (rest === 'maps') return this.answer(response, 200, mapsOf(url.searchParams));
    if (rest === 'filters') return this.answer(response, 200, filtersOf(Number(url.searchParams.get('epoch'))));
    if (rest === 'log') return this.answer(response, 200, 'worker: opened fashion-mnist, 60,000 images\nworker: epoch 1 of 5\n', 'text/plain; charset=utf-8');
    if (rest === 'epochs') {
      const after = Number(url.searchParams.get('after'));
      const page = epochs.filter((epoch) => epoch > after).slice(0, 3);
      const more = page.length && page[page.length - 1] < job.epochs_done;
      return this.answer(response, 200, { items: page.map((epoch) => epochOf(job, epoch)), next: more ? page[page.length - 1] : null });
    }
    const one = /^epochs\/(last|\d+)$/.exec(rest);
    if (one) {
      const epoch = one[1] === 'last' ? job.epochs_done : Number(one[1]);
      return epochs.includes(epoch) ? this.answer(response, 200, epochOf(job, epoch)) : this.problem(response, 404, 'Not found', 'no such epoch');
    }
    return this.answer(response, 200, this.snapshot(job));
  }

  resume(id, response) {
    const device = this.devices.find((candidate) => candidate.id === id);
    if (device.state !== 'drained') return this.problem(response, 409, 'Conflict', `device ${id} is not drained`);
    Object.assign(device, { state: 'ready', reason: null });
    return this.answer(response, 200, device);
  }

  submit(body, url, response) {
    let asked;
    try {
      asked = JSON.parse(body);
    } catch (error) {
      return this.problem(response, 400, 'Invalid JSON', String(error.message));
    }
    if (asked.epochs === 0) return this.problem(response, 400, 'Invalid field', 'epochs is 0; it must be a whole number from 1 to 10000', [{ pointer: '/epochs', detail: 'epochs is 0; it must be a whole number from 1 to 10000' }]);
    const full = spec({ ...asked, model: { ...spec().model, preset: asked.model } });
    if (url.searchParams.get('dry_run') === 'true') return this.answer(response, 200, { spec: full, parameters: 269434, flops: 1, memory_bytes: 157286400, steps_per_epoch: 469, ...(asked.precision === 'tf32' ? { gpu: { need: { total_bytes: 2147483648 } } } : {}) });
    const job = this.addJob({ state: 'queued', epochs_done: 0, spec: full });
    this.send('job', { ...job });
    return this.answer(response, 202, this.snapshot(job));
  }

  api(path, method, url, request, response, body) {
    if (this.broken) return this.problem(response, 500, 'Store', 'the database could not be read: disk I/O error');
    if (path === '/v1/events') return this.stream(url, request, response);
    if (path === '/v1/jobs') return method === 'POST' ? this.submit(body, url, response) : this.list(url, response);
    if (path === '/v1/version') return this.answer(response, 200, { version: '0.1.0', api: 1, sqlite: '3.40.1', microhttpd: '0.9.75' });
    if (path === '/v1/presets') return this.answer(response, 200, { items: [['resnet20', 'ResNet-20'], ['resnet56', 'ResNet-56'], ['plain20', 'Plain-20'], ['plain56', 'Plain-56'], ['lenet5', 'LeNet-5']].map(([name, title]) => ({ name, title, paper: '', residual: name.startsWith('r') })) });
    if (path === '/v1/devices') return this.answer(response, 200, { items: this.devices, state: 'ready', reason: null });
    const resumed = /^\/v1\/devices\/([^/]+)\/resume$/.exec(path);
    if (resumed) return this.resume(decodeURIComponent(resumed[1]), response);
    if (path === '/v1/datasets') return this.answer(response, 200, { items: [{ name: 'fashion-mnist', title: 'Fashion-MNIST', source: 'Debian', shape: [1, 28, 28], classes: CLASSES, train_images: 60000, test_images: 10000, available: true, reason: null }] });
    const match = /^\/v1\/jobs\/([^/]+)\/?(.*)$/.exec(path);
    const job = match && this.jobs.find((candidate) => candidate.id === match[1]);
    return job ? this.job(job, match[2], method, url, response) : this.problem(response, 404, 'Not found', 'there is no such job');
  }

  handle(request, response) {
    const url = new URL(request.url, 'http://x');
    if (!url.pathname.startsWith('/v1/')) return this.file(decodeURIComponent(url.pathname), response);
    let body = '';
    request.on('data', (chunk) => { body += chunk; });
    request.on('end', () => this.api(url.pathname, request.method, url, request, response, body));
    return undefined;
  }

  listen(port = 0) {
    this.server = createServer((request, response) => this.handle(request, response));
    return new Promise((resolve) => this.server.listen(port, '127.0.0.1', () => {
      this.port = this.server.address().port;
      this.address = `http://127.0.0.1:${this.port}`;
      resolve(this.address);
    }));
  }
  close() {
    for (const client of this.clients) client.destroy();
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}

// By itself: a job that trains for ever, four steps a second, an epoch in ten.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [port = '0', flag = ''] = process.argv.slice(2);
  const fixture = new Fixture({ empty: flag === '--empty', broken: flag === '--broken' });
  console.log(await fixture.listen(Number(port)));
  let step = 0;
  if (fixture.live) setInterval(() => {
    step += 12;
    if (fixture.live.state !== 'running') return;
    if (step < 469) fixture.progress(fixture.live, step);
    else { step = 0; fixture.finishEpoch(fixture.live); }
  }, 250);
}
