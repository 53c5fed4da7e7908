// The reducer: snapshots and events in, state out; whatever is old or seen already changes nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fractionDone, initialState, lastEpoch, listedJobs, mayCancel, mayDelete, mayRetry, reduce } from '../../web/src/state.js';
import { epoch, job } from './helpers.mjs';

const run = (actions, state = initialState()) => actions.reduce(reduce, state);
const event = (id, type, data) => ({ type: 'event', id, event: type, data });
const progress = (values) => ({ job: 'a', epoch: 1, epochs: 4, phase: 'train', step: 5, steps: 10, loss: 0.9, images_per_second: 900, seconds_left: 3, ...values });

test('events move a job and grow its epochs', () => {
  const state = run([
    { type: 'job', job: job('a', { state: 'queued', cursor: 1 }) },
    event(2, 'job', job('a', { state: 'running' })),
    event(3, 'progress', progress({})),
    event(4, 'epoch', epoch('a', 1)),
    event(5, 'epoch', epoch('a', 2)),
    event(6, 'job', job('a', { state: 'succeeded', epochs_done: 2, epochs: 2 })),
  ]);
  assert.equal(state.jobs.a.state, 'succeeded');
  assert.deepEqual(state.runs.a.epochs.map((row) => row.epoch), [1, 2]);
  assert.equal(state.runs.a.progress, null);
  assert.equal(lastEpoch(state, 'a').test.accuracy, 0.42);
  assert.equal(state.cursor, 6);
});

test('an event that was seen is ignored, and state is not mutated', () => {
  const before = run([{ type: 'job', job: job('a', { cursor: 1 }) }, event(5, 'epoch', epoch('a', 1))]);
  const frozen = JSON.stringify(before);
  assert.equal(reduce(before, event(5, 'job', job('a', { state: 'failed' }))), before);
  reduce(before, event(6, 'epoch', epoch('a', 2)));
  assert.equal(JSON.stringify(before), frozen);
});

test('a replayed event older than the snapshot does not set the job back', () => {
  const state = run([{ type: 'job', job: job('a', { state: 'succeeded', epochs_done: 4, cursor: 20 }) }, event(12, 'job', job('a', { state: 'running' }))]);
  assert.equal(state.jobs.a.state, 'succeeded');
});

test('epochs of a snapshot and of the stream meet without gap or double', () => {
  const state = run([
    { type: 'job', job: job('a', { epochs_done: 2, cursor: 9 }) },
    { type: 'epochs', id: 'a', items: [epoch('a', 1), epoch('a', 2), epoch('a', 3)] },
    event(10, 'epoch', epoch('a', 3)),
    event(11, 'epoch', epoch('a', 4)),
    { type: 'epochs', id: 'a', items: [epoch('a', 2)] },
  ]);
  assert.deepEqual(state.runs.a.epochs.map((row) => row.epoch), [1, 2, 3, 4]);
  assert.equal(state.jobs.a.epochs_done, 4);
});

test('a job that starts over loses the epochs that are not there any more', () => {
  const state = run([
    { type: 'job', job: job('a', { epochs_done: 2, cursor: 9 }) },
    { type: 'epochs', id: 'a', items: [epoch('a', 1), epoch('a', 2)] },
    event(10, 'job', job('a', { state: 'queued', epochs_done: 1 })),
  ]);
  assert.deepEqual(state.runs.a.epochs.map((row) => row.epoch), [1]);
  assert.deepEqual(Object.keys(state.runs.a.details), ['1']);
});

test('live points belong to the epoch that trains now, and stay bounded', () => {
  let state = run([{ type: 'job', job: job('a', { cursor: 0 }) }]);
  for (let step = 1; step <= 3000; step += 1) state = reduce(state, event(step, 'progress', progress({ step, steps: 3000 })));
  assert.ok(state.runs.a.live.length <= 401);
  assert.equal(state.runs.a.live.at(-1).x, 1);
  state = reduce(state, event(3001, 'epoch', epoch('a', 1)));
  assert.deepEqual(state.runs.a.live, []);
  state = run([event(3002, 'progress', progress({ epoch: 2, loss: null })), event(3003, 'progress', progress({ epoch: 2, step: 6 })), event(3004, 'progress', progress({ epoch: 1 }))], state);
  assert.deepEqual(state.runs.a.live, [{ x: 1.6, loss: 0.9 }]);
});

test('confusion matrices are kept within a bound, scalars of every epoch stay', () => {
  let state = run([{ type: 'job', job: job('a', { epochs: 100, cursor: 0 }) }]);
  for (let number = 1; number <= 60; number += 1) state = reduce(state, event(number, 'epoch', epoch('a', number, 100)));
  assert.equal(state.runs.a.epochs.length, 60);
  const kept = Object.keys(state.runs.a.details).map(Number);
  assert.ok(kept.length < 45 && kept.includes(60));
  state = reduce(state, { type: 'epochs', id: 'a', items: [epoch('a', 1, 100)] });
  assert.ok(state.runs.a.details[1] && state.runs.a.details[60]);
});

test('a deleted job is gone', () => {
  const state = run([{ type: 'job', job: job('a', { cursor: 1 }) }, event(2, 'job', { id: 'a', state: 'deleted' })]);
  assert.deepEqual([state.jobs, state.runs], [{}, {}]);
});

test('the list is newest first, filtered, and ends where the loaded pages end', () => {
  const at = (minute) => ({ created: `2026-11-24T06:${minute}:00.000000Z` });
  const state = run([
    { type: 'filter', filter: 'active' },
    { type: 'job', job: job('ancient', { ...at('01'), cursor: 1 }) },
    { type: 'jobs', items: [job('b', at('20')), job('a', at('10'))], next: 'more', cursor: 5, filter: 'active', append: false },
    event(6, 'job', job('c', { ...at('30'), state: 'queued' })),
    event(7, 'job', job('d', { ...at('40'), state: 'failed' })),
  ]);
  assert.deepEqual(listedJobs(state).map((row) => row.id), ['c', 'b', 'a']);
  const whole = reduce(state, { type: 'jobs', items: [job('ancient', at('01'))], next: null, cursor: 8, filter: 'active', append: true });
  assert.deepEqual(listedJobs(whole).map((row) => row.id), ['c', 'b', 'a', 'ancient']);
});

test('a place in the queue survives events only while the job is queued', () => {
  const queued = run([{ type: 'job', job: job('a', { state: 'queued', position: 2, cursor: 1 }) }, event(2, 'job', job('a', { state: 'queued', position: undefined }))]);
  assert.equal(queued.jobs.a.position, 2);
  assert.equal(reduce(queued, event(3, 'job', job('a', { state: 'starting', position: undefined }))).jobs.a.position, null);
});

test('the share done', () => {
  const half = job('a', { epochs_done: 1, epochs: 2 });
  assert.equal(fractionDone(half, null), 0.5);
  assert.equal(fractionDone(half, progress({ epoch: 2, step: 10 })), 0.95);
  assert.equal(fractionDone(half, progress({ epoch: 2, phase: 'test', step: 10 })), 1);
  assert.equal(fractionDone(half, progress({ epoch: 1 })), 0.5);
  assert.equal(fractionDone(job('a', { state: 'succeeded' }), null), 1);
});

test('what may be done to a job', () => {
  const can = (values) => [mayCancel, mayRetry, mayDelete].map((f) => f(job('a', values)));
  assert.deepEqual(can({ state: 'running' }), [true, false, false]);
  assert.deepEqual(can({ state: 'running', cancel_requested: true }), [false, false, false]);
  assert.deepEqual(can({ state: 'failed' }), [false, true, true]);
  assert.deepEqual(can({ state: 'succeeded' }), [false, false, true]);
});

test('a finished epoch brings its accuracy to the job, an old one does not', () => {
  let state = reduce(initialState(), { type: 'job', job: job('a') });
  state = reduce(state, { type: 'event', id: 11, event: 'epoch', data: epoch('a', 2) });
  assert.deepEqual([state.jobs.a.epochs_done, state.jobs.a.test_accuracy], [2, 0.42]);
  state = reduce(state, { type: 'event', id: 12, event: 'epoch', data: epoch('a', 1) });
  assert.equal(state.jobs.a.test_accuracy, 0.42);
});
