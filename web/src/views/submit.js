// A job written as JSON: the server checks it without queueing (dry run), then takes it.
import { h, whenChanged } from '../dom.js';
import { EXAMPLES } from '../examples.js';
import { problemBox } from './parts.js';

function choices({ t }) {
  const node = h('div', { class: 'choices' });
  const list = (title, items) => h('section', {}, h('h2', {}, title), h('ul', {}, items));
  const draw = whenChanged((datasets, presets) => {
    const dataset = (item) => h('li', {}, h('code', {}, item.name), ` ${item.title}`, item.available === false ? h('p', { class: 'meta' }, t('submit.unavailable', { reason: item.reason ?? '' })) : null);
    const preset = (item) => h('li', {}, h('code', {}, item.name), item.title === item.name ? null : ` ${item.title}`);
    node.replaceChildren(list(t('submit.datasets'), Object.values(datasets).map(dataset)), list(t('submit.presets'), Object.values(presets).map(preset)));
  });
  return { node, update: (state) => draw(state.datasets, state.presets) };
}

export function submitView(ctx) {
  const { t, fmt, actions } = ctx;
  const text = h('textarea', { id: 'spec', rows: 12, spellcheck: 'false', autocomplete: 'off', 'aria-describedby': 'spec-hint', name: 'spec' });
  text.value = EXAMPLES[0].text;
  const examples = h('select', { id: 'example', on: { change: () => { text.value = EXAMPLES[Number(examples.value)].text; } } },
    EXAMPLES.map((example, i) => h('option', { value: i }, t(example.key))));
  const answer = h('div', { role: 'status' });
  const check = h('button', { type: 'button', on: { click: () => ask(true) } }, t('submit.check'));
  const send = h('button', { type: 'submit', class: 'primary' }, t('submit.send'));
  const form = h('form', { class: 'card submit', on: { submit: (event) => { event.preventDefault(); ask(false); } } },
    h('p', { class: 'hint', id: 'spec-hint' }, t('submit.hint')), h('p', { class: 'picker' }, h('label', { for: 'example' }, t('submit.example')), examples), h('label', { for: 'spec' }, t('submit.label')), text, h('div', { class: 'buttons' }, check, send), answer);
  const side = choices(ctx);
  const node = h('div', { class: 'view view-submit' }, h('div', { class: 'head' }, h('h1', { tabindex: '-1' }, t('submit.title'))), h('div', { class: 'columns' }, form, side.node));

  function accepted(result) {
    const memory = result.gpu ? t('submit.gpu', { memory: fmt.megabytes(result.gpu.need.total_bytes) }) : fmt.megabytes(result.memory_bytes);
    const summary = t('submit.valid', { parameters: fmt.whole(result.parameters), steps: fmt.whole(result.steps_per_epoch), memory });
    const spec = h('pre', { tabindex: '0', 'aria-label': t('submit.checked') }, JSON.stringify(result.spec, null, 2));
    answer.replaceChildren(h('p', { class: 'valid' }, summary), h('details', {}, h('summary', {}, t('submit.checked')), spec));
  }

  async function ask(dryRun) {
    check.disabled = send.disabled = true;
    answer.replaceChildren(h('p', { class: 'hint' }, t('submit.busy')));
    try {
      const result = await actions.submit(text.value, dryRun);
      if (dryRun) accepted(result);
    } catch (error) {
      answer.replaceChildren(problemBox(error.problem, ctx));
      text.setAttribute('aria-invalid', 'true');
      return;
    } finally {
      check.disabled = send.disabled = false;
    }
    text.removeAttribute('aria-invalid');
  }
  return { node, update: (state) => side.update(state), title: () => t('submit.title') };
}

export function unknownView({ t }) {
  const node = h('div', { class: 'view' }, h('section', { class: 'card notice' }, h('h1', { tabindex: '-1' }, t('error.unknown')), h('p', {}, t('error.unknown.text')), h('a', { href: '#/jobs', class: 'button' }, t('error.tojobs'))));
  return { node, update() {}, title: () => t('error.unknown') };
}
