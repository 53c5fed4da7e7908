// Loading, against an API made of fakes: what is asked, in which order, and what happens when it fails.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createActions } from '../../web/src/actions.js';
import { parseHash } from '../../web/src/settings.js';
import { initialState, reduce } from '../../web/src/state.js';
import { epoch, job } from './helpers.mjs';

function setUp(answers) {
  let state = initialState();
  const calls = [];
  const started = [];
  const page = { get: () => state, dispatch: (action) => { state = reduce(state, action); } };
  const api = new Proxy({}, {
    get: (_, name) => async (...args) => {
      calls.push([name, ...args.filter((arg) => typeof arg !== 'function')]);
      const answer = answers[name](...args);
      if (answer instanceof Error) throw answer;
      return answer;
    },
  });
  const actions = createActions(page, api, { start: (cursor) => started.push(cursor), retryNow() {} });
  return { actions, calls, started, get state() { return state; } };
}

const refusal = (status) => Object.assign(new Error('refused'), { problem: { status, title: 'x', detail: 'refused', errors: [] } });
const { settings } = parseHash('');
const settled = () => new Promise((resolve) => { setImmediate(resolve); });

test('the list starts the stream at its cursor and needs no other request', async () => {
  const page = setUp({ jobs: () => ({ items: [job('b', { epochs_done: 2 }), job('a')], next: null, cursor: 12 }) });
  await page.actions.show({ view: 'jobs' }, settings);
  await settled();
  assert.deepEqual(page.started, [12]);
  assert.deepEqual(page.calls, [['jobs', 'all', null]]);
  assert.deepEqual(Object.keys(page.state.jobs).sort(), ['a', 'b']);
});

test('a job loads every page of epochs, once', async () => {
  const page = setUp({ job: () => job('a', { cursor: 7, epochs_done: 2 }), epochs: (_, onPage) => { onPage([epoch('a', 1)]); onPage([epoch('a', 2)]); } });
  await page.actions.show({ view: 'job', id: 'a' }, settings);
  await page.actions.show({ view: 'job', id: 'a' }, settings);
  assert.deepEqual([page.started, page.calls.length, page.state.runs.a.complete, page.state.runs.a.epochs.length], [[7], 2, true, 2]);
});

test('a refusal is kept as a failed load, and nothing streams', async () => {
  const page = setUp({ job: () => refusal(404) });
  await page.actions.show({ view: 'job', id: 'a' }, settings);
  assert.deepEqual([page.state.loads['job/a'].status, page.state.loads['job/a'].error.status], ['failed', 404]);
  assert.deepEqual([page.started, page.state.connection.status], [[], 'offline']);
});

test('after a lost connection, other data on the server start the page anew', async () => {
  let cursor = 50;
  const page = setUp({ jobs: () => ({ items: [job(cursor === 50 ? 'old' : 'new')], next: null, cursor }), epoch: () => epoch('x', 1) });
  const route = { view: 'jobs' };
  await page.actions.show(route, settings);
  await page.actions.resync(route, settings);
  assert.deepEqual([page.started, Object.keys(page.state.jobs)], [[50], ['old']]);
  cursor = 3;
  await page.actions.resync(route, settings);
  assert.deepEqual([page.started, Object.keys(page.state.jobs)], [[50, 3], ['new']]);
});

test('a cancelled job shows at once, a refused one throws', async () => {
  const page = setUp({ cancel: (id) => (id === 'a' ? job('a', { state: 'cancelled' }) : refusal(409)) });
  await page.actions.cancel('a');
  assert.equal(page.state.jobs.a.state, 'cancelled');
  await assert.rejects(page.actions.cancel('b'), (error) => error.problem.status === 409);
});

test('what a view needs is asked once, kept, and not asked again after a refusal', async () => {
  const page = setUp({ graph: (id) => (id === 'bad' ? refusal(404) : { nodes: [] }) });
  const { key, what } = page.actions.needGraph('a');
  page.actions.needGraph('a');
  await settled();
  page.actions.needGraph('a');
  assert.deepEqual([page.state.answers[key], page.state.loads[what].status, page.calls.length], [{ nodes: [] }, 'ready', 1]);
  const bad = page.actions.needGraph('bad');
  await settled();
  page.actions.needGraph('bad');
  assert.deepEqual([page.state.loads[bad.what].status, page.calls.length], ['failed', 2]);
});

test('only the newest answers are kept', async () => {
  const page = setUp({ filters: (_, epoch) => epoch });
  for (let epoch = 1; epoch <= 20; epoch += 1) page.actions.needFilters('a', epoch);
  await settled();
  assert.equal(Object.keys(page.state.answers).length, 16);
  assert.equal(page.state.answers['filters/a/20'], 20);
  assert.equal(page.state.answers['filters/a/1'], undefined);
});
