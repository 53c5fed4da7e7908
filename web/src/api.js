// Requests to the daemon. The only file that calls fetch.

const TIMEOUT_MS = 20000;
const EPOCHS_PAGE = 1000;

// problem: the server's problem document, or one made here when no sensible answer came.
export class ApiError extends Error {
  constructor(problem) {
    super(problem.detail || problem.title);
    this.problem = problem;
    this.status = problem.status;
  }
}

async function problemOf(response) {
  const fallback = { status: response.status, title: `HTTP ${response.status}`, detail: response.statusText, errors: [] };
  if (!(response.headers.get('content-type') ?? '').startsWith('application/problem+json')) return fallback;
  try {
    return { ...fallback, ...(await response.json()) };
  } catch {
    return fallback;
  }
}

async function send(path, options) {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), TIMEOUT_MS);
  try {
    const response = await fetch(path, { ...options, signal: stop.signal, cache: 'no-store' });
    if (!response.ok) throw new ApiError(await problemOf(response));
    return response.status === 204 ? null : options.text ? await response.text() : await response.json();
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError({ status: 0, title: 'network', detail: String(error.message ?? error), errors: [] });
  } finally {
    clearTimeout(timer);
  }
}

const get = (path, options = {}) => send(path, { method: 'GET', ...options });
const job = (id) => `v1/jobs/${encodeURIComponent(id)}`;

export const FILTERS = { all: '', active: 'queued,starting,running', queued: 'queued', succeeded: 'succeeded', failed: 'failed', cancelled: 'cancelled' };

export const api = {
  jobs(filter, before) {
    const query = new URLSearchParams({ limit: '50' });
    if (FILTERS[filter]) query.set('state', FILTERS[filter]);
    if (before) query.set('before', before);
    return get(`v1/jobs?${query}`);
  },
  job: (id) => get(job(id)),
  epoch: (id, epoch) => get(`${job(id)}/epochs/${epoch}`),
  // Every epoch, page by page; onPage(items) is called for each.
  async epochs(id, onPage) {
    for (let after = 0; after !== null; ) {
      const page = await get(`${job(id)}/epochs?after=${after}&limit=${EPOCHS_PAGE}`);
      onPage(page.items);
      after = page.next;
    }
  },
  weights: (id) => get(`${job(id)}/weights`),
  graph: (id) => get(`${job(id)}/graph`),
  images: (id) => get(`${job(id)}/images?first=0&n=25`),
  maps: (id, { epoch, image, layer, channels }) => get(`${job(id)}/maps?${new URLSearchParams({ layer, image, epoch, channels: `0-${channels - 1}` })}`),
  filters: (id, epoch) => get(`${job(id)}/filters?epoch=${epoch}`),
  log: (id) => get(`${job(id)}/log?limit=16384`, { text: true }),
  cancel: (id) => send(`${job(id)}/cancel`, { method: 'POST' }),
  retry: (id) => send(`${job(id)}/retry`, { method: 'POST' }),
  verify: (id) => send(`${job(id)}/verify`, { method: 'POST' }),
  remove: (id) => send(job(id), { method: 'DELETE' }),
  // body: the text as typed; the server judges it.
  submit: (body, dryRun) =>
    send(dryRun ? 'v1/jobs?dry_run=true' : 'v1/jobs', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body }),
  devices: () => get('v1/devices'),
  resumeDevice: (id) => send(`v1/devices/${encodeURIComponent(id)}/resume`, { method: 'POST' }),
  datasets: () => get('v1/datasets'),
  presets: () => get('v1/presets'),
  version: () => get('v1/version'),
};
