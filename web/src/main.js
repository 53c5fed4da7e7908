// Starts the page: state, routes, stream and views are put together here.
import { createActions } from './actions.js';
import { api } from './api.js';
import { chooseLanguage, formatter, translator } from './i18n.js';
import { formatHash, parseHash } from './settings.js';
import { initialState, reduce } from './state.js';
import { createStream } from './stream.js';
import { devicesView } from './views/devices.js';
import { frame } from './views/frame.js';
import { jobView } from './views/job.js';
import { jobsView } from './views/jobs.js';
import { submitView, unknownView } from './views/submit.js';

const VIEWS = { jobs: jobsView, job: jobView, submit: submitView, devices: devicesView, unknown: unknownView };
const dark = matchMedia('(prefers-color-scheme: dark)');

let state = initialState();
let { route, settings } = parseHash(location.hash);
let shown = { key: null, frame: null, view: null };
let look = { dark: false };
let planned = false;

function dispatch(action) {
  state = reduce(state, action);
  plan();
}

// Many events become one drawing; a hidden page draws nothing.
function plan() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(draw);
}

const stream = createStream(
  {
    onEvent(event) {
      dispatch({ type: 'event', ...event });
      actions.noticed(event);
    },
    onStatus(status) {
      const wasLost = state.connection.status === 'lost';
      const since = status === 'lost' ? (wasLost ? state.connection.since : new Date().toISOString()) : null;
      dispatch({ type: 'connection', status, since });
      if (status === 'open' && wasLost) actions.resync(route, settings);
    },
  },
  {
    EventSource,
    setTimeout: (f, ms) => setTimeout(f, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    random: Math.random,
  },
);

const actions = createActions({ get: () => state, dispatch }, api, stream);

const pageActions = {
  ...actions,
  // A setting changes in place; it is in the address, but not a step of the history.
  set(name, value) {
    settings = { ...settings, [name]: value };
    history.replaceState(null, '', formatHash(route, settings));
    actions.show(route, settings);
    plan();
  },
  reload: () => actions.show(route, settings),
  async delete(id) {
    await actions.delete(id);
    location.hash = formatHash({ view: 'jobs' }, settings);
  },
  async verify(id) {
    const job = await actions.verify(id);
    location.hash = formatHash({ view: 'job', id: job.id }, { lang: settings.lang, theme: settings.theme });
  },
  async submit(text, dryRun) {
    const result = await actions.submit(text, dryRun);
    if (!dryRun) location.hash = formatHash({ view: 'job', id: result.id }, { lang: settings.lang, theme: settings.theme });
    return result;
  },
};

function languageNow() {
  return chooseLanguage(settings.lang, navigator.languages);
}

// Another language builds everything anew; another route only the view.
function build() {
  const language = languageNow();
  const key = `${language} ${route.view} ${route.id ?? ''}`;
  if (shown.key === key) return;
  const moved = shown.key !== null;
  const ctx = { t: translator(language), fmt: formatter(language), actions: pageActions };
  shown.view?.destroy?.();
  if (shown.language !== language) {
    shown.frame = frame(ctx);
    document.documentElement.lang = language;
    document.getElementById('app').replaceChildren(...shown.frame.nodes);
  }
  const turned = shown.language === language;
  shown = { key, language, frame: shown.frame, view: VIEWS[route.view](ctx, route.id) };
  shown.frame.main.replaceChildren(shown.view.node);
  if (!moved) return;
  if (turned) scrollTo(0, 0);
  (turned ? shown.view.node.querySelector('h1') : document.getElementById('set-lang'))?.focus({ preventScroll: true });
}

function draw() {
  planned = false;
  document.documentElement.dataset.theme = settings.theme;
  build();
  shown.frame.update(state, route, settings);
  const isDark = settings.theme === 'dark' || (settings.theme === 'auto' && dark.matches);
  look = isDark === look.dark ? look : { dark: isDark };
  shown.view.update(state, settings, look);
  document.title = `${shown.view.title(state)} – Residuum`;
}

addEventListener('hashchange', () => {
  ({ route, settings } = parseHash(location.hash));
  actions.show(route, settings);
  plan();
});
addEventListener('languagechange', plan);
dark.addEventListener('change', plan);
document.addEventListener('visibilitychange', () => stream.setHidden(document.hidden));

actions.catalog();
actions.show(route, settings);
plan();
