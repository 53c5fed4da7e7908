// Pieces that several views share.
import { h, icon, setText, setAttributes, svg } from '../dom.js';
import { fractionDone } from '../state.js';

export function modelTitle(state, job, { t }) {
  const { preset } = job.spec.model;
  if (preset === undefined) return t('model.own');
  return state.presets[preset]?.title ?? preset;
}

export function datasetTitle(state, job) {
  return state.datasets[job.spec.dataset]?.title ?? job.spec.dataset;
}

export function jobTitle(state, job, ctx) {
  return job.name || `${modelTitle(state, job, ctx)} · ${datasetTitle(state, job)}`;
}

// What makes a preset another network: "downsampling max_pool · depth 3-3-5 · overrides: 1".
export function modelOptions(model, { t, fmt }) {
  const { preset, overrides = [], layers, ...options } = model;
  const texts = Object.entries(options).map(([name, value]) => `${name} ${Array.isArray(value) ? value.join('-') : value}`);
  return overrides.length ? [...texts, t('spec.overrides', { n: fmt.whole(overrides.length) })] : texts;
}

// "ResNet-20 · Fashion-MNIST · f32 · batch 128 · seed 1"; what the title says already is left out.
export function jobLine(state, job, ctx) {
  const { t, fmt } = ctx;
  const { spec } = job;
  const subject = job.name ? [modelTitle(state, job, ctx), datasetTitle(state, job)] : [];
  const again = job.verifies ? [t('spec.verifies')] : [];
  const limit = spec.train_limit ? [t('spec.limit', { n: fmt.whole(spec.train_limit) })] : [];
  return [...subject, ...modelOptions(spec.model, ctx), spec.precision, t('spec.batch', { n: spec.batch_size }), t('spec.seed', { n: spec.seed }), ...limit, ...again].join(' · ');
}

export function shownState(job) {
  return job.cancel_requested && (job.state === 'starting' || job.state === 'running') ? 'cancelling' : job.state;
}

// A badge says the state by icon, word and colour.
export function badge({ t }) {
  const node = h('span', { class: 'badge' });
  return {
    node,
    update(job) {
      const state = shownState(job);
      if (node.dataset.state === state) return;
      node.dataset.state = state;
      node.replaceChildren(icon(state), h('span', {}, t(`state.${state}`)));
    },
  };
}

export function progressBar(label) {
  const node = h('progress', { max: 1000, 'aria-label': label });
  return {
    node,
    update(job, progress) {
      setAttributes(node, { value: Math.round(1000 * fractionDone(job, progress)), 'data-state': shownState(job) });
    },
  };
}

// A short sample of a line, drawn as a chart draws it.
export function sample(key, dash, filled) {
  const line = svg('line', { x1: 1, y1: 6, x2: 31, y2: 6, 'stroke-width': 2.25, 'stroke-dasharray': dash });
  const dot = filled === null ? [] : [svg('circle', { cx: 16, cy: 6, r: 3.4, class: filled ? 'filled' : 'ring' })];
  return svg('svg', { viewBox: '0 0 32 12', class: `sample sample-${key}`, 'aria-hidden': 'true' }, line, ...dot);
}

// A name and a value, as an entry of a <dl>.
export function fact(name, className = '') {
  const value = h('dd', {});
  const node = h('div', { class: `fact ${className}` }, h('dt', {}, name), value);
  return {
    node,
    set(text) {
      node.hidden = text === null;
      setText(value, text ?? '');
    },
  };
}

// What went wrong, in the server's words, with its list of fields.
export function problemBox(problem, { t }) {
  const detail = problem.status === 0 ? t('error.network') : problem.detail;
  const rows = (problem.errors ?? []).map((error) => h('li', {}, h('code', {}, error.pointer || '/'), ' ', error.detail));
  return h('div', { class: 'problem', role: 'alert' }, h('p', {}, icon('warning'), h('span', {}, detail)), rows.length ? h('ul', {}, rows) : null);
}

export function failedLoad(problem, ctx, again) {
  const button = h('button', { type: 'button', on: { click: again } }, ctx.t('error.again'));
  return h('section', { class: 'card notice' }, h('h2', {}, ctx.t('error.title')), problemBox(problem, ctx), button);
}

export function copyButton(text, { t }) {
  if (!navigator.clipboard) return null;
  const button = h('button', { type: 'button', class: 'quiet' }, t('copy.do'));
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(text());
    setText(button, t('copy.done'));
  });
  return button;
}

// Asks in a modal dialog; resolves to true or false. The dialog gives the focus back when it closes.
export function confirmIn(parent, { question, explanation, yes, no, danger }) {
  return new Promise((resolve) => {
    const dialog = h('dialog', { 'aria-labelledby': 'ask-title', 'aria-describedby': 'ask-text' });
    const button = (text, answer, className) => h('button', { type: 'button', class: className, on: { click: () => dialog.close(answer) } }, text);
    dialog.append(
      h('h2', { id: 'ask-title' }, question),
      h('p', { id: 'ask-text' }, explanation),
      h('div', { class: 'buttons' }, button(no, 'no', ''), button(yes, 'yes', danger ? 'danger' : 'primary')),
    );
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes');
    });
    parent.append(dialog);
    dialog.showModal();
  });
}

// A group of radio buttons that looks like one control. onPick(value) is called on a choice.
export function segments({ name, label, options, onPick }) {
  const inputs = options.map(({ value, text }) => {
    const input = h('input', { type: 'radio', name, value, on: { change: () => onPick(value) } });
    return { value, input, node: h('label', {}, input, h('span', {}, text)) };
  });
  const node = h('fieldset', { class: 'segments' }, h('legend', {}, label), h('div', {}, inputs.map((row) => row.node)));
  return { node, update: (value) => inputs.forEach((row) => { row.input.checked = row.value === value; }) };
}
