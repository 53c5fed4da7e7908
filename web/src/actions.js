// What the page does: loads snapshots, starts the stream, carries out what the reader asks for. No DOM; fetch only through api.

const PLACES_MS = 300;

// page: {get() -> state, dispatch(action)}; api as in api.js; stream as in stream.js.
export function createActions(page, api, stream) {
  let streaming = false;
  let devicesShown = false;

  async function load(what, request) {
    if (page.get().loads[what]?.status === 'loading') return;
    page.dispatch({ type: 'load', what, status: 'loading' });
    try {
      await request();
      page.dispatch({ type: 'load', what, status: 'ready' });
    } catch (error) {
      if (!error.problem) throw error; // a bug of ours
      page.dispatch({ type: 'load', what, status: 'failed', error: error.problem });
      if (!streaming) page.dispatch({ type: 'connection', status: 'offline', since: null });
    }
  }

  // The stream starts at the first snapshot's cursor; later snapshots are read while it runs.
  function startStream(cursor) {
    if (streaming) return;
    streaming = true;
    page.dispatch({ type: 'cursor', cursor });
    stream.start(cursor);
  }

  // Asks once and keeps the answer under key, for views that say what they need whenever they draw.
  function need(key, request) {
    const what = `ask/${key}`;
    const { answers, loads } = page.get();
    const asked = ['loading', 'failed'].includes(loads[what]?.status);
    if (!(key in answers) && !asked) load(what, async () => page.dispatch({ type: 'answer', key, value: await request() }));
    return { key, what };
  }

  async function readJobs(filter, before) {
    const answer = await api.jobs(filter, before);
    if (filter !== page.get().list.filter) return answer; // the reader has moved on
    page.dispatch({ type: 'jobs', items: answer.items, next: answer.next, cursor: answer.cursor, filter, append: Boolean(before) });
    startStream(answer.cursor);
    return answer;
  }

  function showJobs(filter) {
    const { list } = page.get();
    if (list.filter === filter && list.loaded) return undefined;
    if (list.filter !== filter) page.dispatch({ type: 'filter', filter });
    return load('jobs', () => readJobs(filter, null));
  }

  async function readJob(id) {
    const job = await api.job(id);
    page.dispatch({ type: 'job', job });
    startStream(job.cursor);
    await api.epochs(id, (items) => page.dispatch({ type: 'epochs', id, items }));
    page.dispatch({ type: 'complete', id });
    return job;
  }

  function showJob(id) {
    if (page.get().runs[id]?.complete) return undefined;
    return load(`job/${id}`, () => readJob(id));
  }

  const readDevices = () => load('devices', async () => page.dispatch({ type: 'devices', devices: await api.devices() }));

  function show(route, settings) {
    devicesShown = route.view === 'devices';
    if (devicesShown) readDevices();
    if (route.view === 'job') return showJob(route.id);
    if (route.view === 'jobs') return showJobs(settings.state);
    if (!streaming) return load('jobs', () => readJobs(page.get().list.filter, null));
    return undefined;
  }

  // After a lost connection: the server may have started anew, even with other data. Its newest event tells.
  async function resync(route, settings) {
    const before = page.get().cursor;
    let answer;
    try {
      answer = await api.jobs('all', null);
    } catch (error) {
      if (!error.problem) throw error;
      return; // lost again; the stream will say so
    }
    if (answer.cursor >= before) return;
    streaming = false;
    page.dispatch({ type: 'reset' });
    await show(route, settings);
  }

  // Neither places in the queue nor what devices do is in the events: both are read again a moment after a job moved.
  let placesPlanned = false;
  let devicesPlanned = false;
  async function readPlaces() {
    placesPlanned = false;
    try {
      const answer = await api.jobs('queued', null);
      answer.items.forEach((job) => page.dispatch({ type: 'job', job }));
    } catch (error) {
      if (!error.problem) throw error; // the old places stay
    }
  }
  function planDevices() {
    if (!devicesShown || devicesPlanned) return;
    devicesPlanned = true;
    setTimeout(() => { devicesPlanned = false; readDevices(); }, PLACES_MS);
  }
  function noticed({ event, data }) {
    if (event === 'job') planDevices();
    if (event !== 'job' || data.state === 'queued' || placesPlanned) return;
    if (!Object.values(page.get().jobs).some((job) => job.state === 'queued')) return;
    placesPlanned = true;
    setTimeout(readPlaces, PLACES_MS);
  }

  async function catalog() {
    await Promise.all([
      load('datasets', async () => page.dispatch({ type: 'datasets', items: (await api.datasets()).items })),
      load('presets', async () => page.dispatch({ type: 'presets', items: (await api.presets()).items })),
      load('version', async () => page.dispatch({ type: 'version', version: await api.version() })),
    ]);
  }

  return {
    show,
    resync,
    catalog,
    noticed,
    loadMore() {
      const { filter, next } = page.get().list;
      if (next !== null) load('more', () => readJobs(filter, next));
    },
    needEpoch(id, epoch) {
      const what = `epoch/${id}/${epoch}`;
      if (page.get().loads[what]?.status === 'failed') return;
      load(what, async () => page.dispatch({ type: 'epochs', id, items: [await api.epoch(id, epoch)] }));
    },
    needWeights: (id, epoch) => need(`weights/${id}/${epoch}`, () => api.weights(id)),
    needGraph: (id) => need(`graph/${id}`, () => api.graph(id)),
    needImages: (id) => need(`images/${id}`, () => api.images(id)),
    needMaps: (id, wanted) => need(`maps/${id}/${Object.values(wanted).join('/')}`, () => api.maps(id, wanted)),
    needFilters: (id, epoch) => need(`filters/${id}/${epoch}`, () => api.filters(id, epoch)),
    loadLog: (id) => load(`log/${id}`, async () => page.dispatch({ type: 'log', id, text: await api.log(id) })),
    async cancel(id) {
      page.dispatch({ type: 'job', job: await api.cancel(id) });
    },
    async retry(id) {
      page.dispatch({ type: 'job', job: await api.retry(id) });
    },
    verify: (id) => api.verify(id),
    async resumeDevice(id) {
      await api.resumeDevice(id);
      await readDevices();
    },
    async delete(id) {
      await api.remove(id);
      page.dispatch({ type: 'gone', id });
    },
    submit: (text, dryRun) => api.submit(text, dryRun),
    retryStream: () => stream.retryNow(),
  };
}
