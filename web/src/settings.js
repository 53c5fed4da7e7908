// Every setting of the page in one table, mirrored to the URL's hash, so that a view is a link. No DOM.

// A setting is one of `values`, an integer within `bounds`, or a text that fits `pattern`; its first value (or `initial`) is left out
// of the hash.
// scope "page" survives moving to another view, the others end with the view.
export const SETTINGS = {
  lang: { scope: 'page', values: ['auto', 'en', 'de'] },
  theme: { scope: 'page', values: ['auto', 'light', 'dark'] },
  state: { scope: 'jobs', values: ['all', 'active', 'succeeded', 'failed', 'cancelled'] },
  epoch: { scope: 'job', bounds: [1, 1000000], initial: null }, // null: the latest
  image: { scope: 'job', bounds: [1, 25], initial: 1 }, // the first of the images shown
  network: { scope: 'job', values: ['closed', 'open'] }, // the picture of the model
  inside: { scope: 'job', values: ['closed', 'open'] }, // the part about feature maps
  layer: { scope: 'job', pattern: /^[A-Za-z0-9._-]{1,63}$/, initial: null }, // whose maps are shown; null: the first
  map: { scope: 'job', bounds: [1, 1000000], initial: 1 }, // the test image they are of
  loss: { scope: 'job', values: ['linear', 'log'] },
  layers: { scope: 'job', values: ['gradient_norm', 'update_ratio', 'weight_norm', 'deviation', 'mean', 'dead'] }, // what is drawn per layer
};

const JOB_ID = /^[A-Za-z0-9_-]{1,64}$/;

function initial(setting) {
  return setting.values ? setting.values[0] : setting.initial;
}

function parseValue(setting, text) {
  if (text === null) return initial(setting);
  if (setting.values) return setting.values.includes(text) ? text : initial(setting);
  if (setting.pattern) return setting.pattern.test(text) ? text : initial(setting);
  const number = /^[0-9]{1,7}$/.test(text) ? Number(text) : NaN;
  return number >= setting.bounds[0] && number <= setting.bounds[1] ? number : initial(setting);
}

function parsePath(path) {
  if (path === '' || path === '/' || path === '/jobs') return { view: 'jobs', id: null };
  if (path === '/submit' || path === '/devices') return { view: path.slice(1), id: null };
  const match = /^\/jobs\/([^/]+)$/.exec(path);
  if (match && JOB_ID.test(match[1])) return { view: 'job', id: match[1] };
  return { view: 'unknown', id: null };
}

// "#/jobs/ID?epoch=3&lang=de" -> {route: {view, id}, settings}. Whatever makes no sense becomes the setting's initial value.
export function parseHash(hash) {
  const text = hash.startsWith('#') ? hash.slice(1) : hash;
  const cut = text.indexOf('?');
  const query = new URLSearchParams(cut < 0 ? '' : text.slice(cut + 1));
  const settings = {};
  for (const [name, setting] of Object.entries(SETTINGS)) settings[name] = parseValue(setting, query.get(name));
  return { route: parsePath(cut < 0 ? text : text.slice(0, cut)), settings };
}

// The other way round; leaves out what has its initial value or belongs to another view.
export function formatHash(route, settings) {
  const query = new URLSearchParams();
  for (const [name, setting] of Object.entries(SETTINGS)) {
    const value = settings[name];
    if (setting.scope !== 'page' && setting.scope !== route.view) continue;
    if (value === undefined || value === initial(setting)) continue;
    query.set(name, String(value));
  }
  const path = route.view === 'job' ? `/jobs/${route.id}` : `/${route.view}`;
  const text = query.toString();
  return text ? `#${path}?${text}` : `#${path}`;
}
