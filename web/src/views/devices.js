// The devices of the server: what each is and computes with, what it does now, how a GPU feels, and why something cannot be used.
import { h, icon, keyed, setText, show, whenChanged } from '../dom.js';
import { formatHash } from '../settings.js';
import { fact, failedLoad, problemBox } from './parts.js';

// "61 °C · 93% busy · 230 W · 4,100 MiB used"; what the driver does not tell is left out. Null when it tells nothing.
export function gpuText(gpu, { t, fmt }) {
  const parts = [
    ['gpu.temperature', gpu?.temperature_c, fmt.whole],
    ['gpu.utilization', gpu?.utilization, fmt.percentShort],
    ['gpu.power', gpu?.power_w, fmt.whole],
    ['gpu.memory', gpu?.memory_used_bytes, fmt.megabytes],
  ];
  const known = parts.filter(([, value]) => typeof value === 'number');
  return known.length ? known.map(([key, value, format]) => t(key, { value: format(value) })).join(' · ') : null;
}

function checkText(check, { t, fmt }) {
  if (!check) return t('device.check.none');
  return t(check.passed ? 'device.check.passed' : 'device.check.failed', { time: fmt.dateTime(check.at) });
}

// A busy device without a job checks itself before its first one.
function shownState(device) {
  return device.state === 'busy' && !device.job ? 'checking' : device.state;
}

// What the server says of a GPU as long as nobody has reported a run on one; the page says it in the reader's language.
const UNPROVEN = 'not yet run on hardware by us';

const LOOKS = { ready: ['succeeded', 'succeeded'], busy: ['running', 'running'], checking: ['starting', 'starting'], drained: ['failed', 'failed'] }; // icon, colour

function backendText({ name, version, precisions }) {
  return `${name} ${version} (${precisions.join(', ')})`;
}

function computeText(device, { t }) {
  return device.compute ? t('device.compute.text', { compute: device.compute, driver: device.driver ?? '–' }) : null;
}

// The GPU's state as the running job last told it; else as the list of devices did.
function telemetryOf(device, state) {
  return state.runs[device.job]?.progress?.gpu ?? device.telemetry ?? null;
}

function deviceCard(ctx) {
  const { t, fmt, actions } = ctx;
  const name = h('h2', {});
  const id = h('p', { class: 'meta' });
  const status = h('span', { class: 'badge' });
  const job = h('a', {});
  const note = h('p', { class: 'hint' });
  const reason = h('p', { class: 'device-reason' });
  const problem = h('div', {});
  const unusable = h('ul', { class: 'meta' });
  let current = null;
  const resume = h('button', { type: 'button', on: { click: () => putBack() } }, t('device.resume'));
  const rows = [
    ['device.backends', (device) => device.backends.map(backendText).join('; ') || null],
    ['device.compute', (device) => computeText(device, ctx)],
    ['device.memory', (device) => fmt.megabytes(device.memory_bytes)],
    ['device.threads', (device) => (device.compute ? null : fmt.whole(device.threads))],
    ['device.check', (device) => (device.compute ? checkText(device.self_check, ctx) : null)],
    ['device.now', (device, state) => gpuText(telemetryOf(device, state), ctx)],
  ].map(([key, text]) => ({ text, fact: fact(t(key)) }));
  const node = h('li', { class: 'card device-card' },
    h('div', { class: 'head' }, h('div', {}, name, id), status), reason, h('p', {}, job), note,
    h('dl', { class: 'facts' }, rows.map((row) => row.fact.node)), unusable, h('div', { class: 'buttons' }, resume), problem);

  async function putBack() {
    problem.replaceChildren();
    try {
      await actions.resumeDevice(current.id);
    } catch (error) {
      problem.replaceChildren(problemBox(error.problem, ctx));
    }
  }
  const drawStatus = whenChanged((value) => {
    const [picture, colour] = LOOKS[value];
    status.dataset.state = colour;
    status.replaceChildren(icon(picture), h('span', {}, t(`device.state.${value}`)));
  });
  // A backend without a device of its own is told with the processor: cudnn there means that there is no GPU.
  const drawUnusable = whenChanged((list) => unusable.replaceChildren(...list.map((row) => {
    const key = row.name === 'cudnn' && !current.compute ? 'device.nogpu' : 'device.unusable';
    return h('li', {}, t(key, { backend: row.name, reason: row.reason }));
  })));

  function update({ device, state, settings }) {
    current = device;
    node.dataset.device = device.id;
    node.dataset.state = device.state;
    setText(name, device.name);
    setText(id, device.id);
    drawStatus(shownState(device));
    setText(job, device.job ? t('device.job', { job: state.jobs[device.job]?.name || device.job }) : '');
    if (device.job) job.href = formatHash({ view: 'job', id: device.job }, { lang: settings.lang, theme: settings.theme });
    setText(note, device.note === UNPROVEN ? t('device.unproven') : device.note ?? '');
    setText(reason, device.state === 'drained' ? device.reason ?? '' : '');
    rows.forEach((row) => row.fact.set(row.text(device, state)));
    drawUnusable(device.unusable);
    show(job.parentNode, device.job);
    show(note, device.note);
    show(reason, device.state === 'drained');
    show(resume.parentNode, device.state === 'drained');
  }
  return { node, update };
}

export function devicesView(ctx) {
  const { t, actions } = ctx;
  const message = h('div', {});
  const list = h('ul', { class: 'devices' });
  const cards = new Map();
  const node = h('div', { class: 'view view-devices' }, h('div', { class: 'head' }, h('h1', { tabindex: '-1' }, t('devices.title'))), h('p', { class: 'hint' }, t('devices.hint')), message, list);

  const drawMessage = whenChanged((devices, load) => {
    if (load?.status === 'failed' && !devices) return message.replaceChildren(failedLoad(load.error, ctx, () => actions.reload()));
    if (!devices || devices.state === 'probing') return message.replaceChildren(h('p', { class: 'loading', role: 'status' }, t(devices ? 'devices.probing' : 'app.loading')));
    return message.replaceChildren(...(devices.reason ? [h('p', { class: 'problem', role: 'alert' }, devices.reason)] : []));
  });

  function update(state, settings) {
    drawMessage(state.devices, state.loads.devices);
    const items = state.devices?.items ?? [];
    keyed(list, cards, items.map((device) => ({ device, state, settings })), (item) => item.device.id, () => deviceCard(ctx));
    show(list, items.length > 0);
  }
  return { node, update, title: () => t('devices.title') };
}
