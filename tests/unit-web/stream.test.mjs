// The stream against a browser made of fakes: what it opens, when it gives up and comes back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoffMs, createStream, HIDDEN_MS } from '../../web/src/stream.js';

function setUp() {
  const seen = { urls: [], events: [], statuses: [], sources: [], timers: new Map(), next: 1 };
  class FakeSource {
    constructor(url) {
      seen.urls.push(url);
      seen.sources.push(this);
      this.readyState = 0;
      this.listeners = {};
    }
    addEventListener(type, listener) { this.listeners[type] = listener; }
    close() { this.readyState = 2; this.closed = true; }
    open() { this.readyState = 1; this.onopen(); }
    message(id, type, data = {}) { this.listeners[type]({ lastEventId: String(id), data: JSON.stringify(data) }); }
    fail(readyState) { this.readyState = readyState; this.onerror(); }
  }
  const browser = {
    EventSource: FakeSource,
    setTimeout(f, ms) { seen.timers.set(seen.next, { f, ms }); return seen.next++; },
    clearTimeout: (timer) => seen.timers.delete(timer),
    random: () => 0.5,
  };
  seen.fire = () => { const [[timer, { f }]] = seen.timers; seen.timers.delete(timer); f(); };
  seen.last = () => seen.sources.at(-1);
  const stream = createStream({ onEvent: (event) => seen.events.push(event), onStatus: (status) => seen.statuses.push(status) }, browser);
  return { seen, stream };
}

test('opens after the cursor, passes events on once and in order', () => {
  const { seen, stream } = setUp();
  stream.start(41);
  seen.last().open();
  seen.last().message(42, 'job', { id: 'a' });
  seen.last().message(42, 'job', { id: 'a' });
  seen.last().message(43, 'epoch', { job: 'a' });
  assert.deepEqual(seen.urls, ['v1/events?after=41']);
  assert.deepEqual(seen.events, [{ id: 42, event: 'job', data: { id: 'a' } }, { id: 43, event: 'epoch', data: { job: 'a' } }]);
  assert.deepEqual(seen.statuses, ['connecting', 'open']);
});

test('while the browser tries by itself, nothing is opened anew', () => {
  const { seen, stream } = setUp();
  stream.start(1);
  seen.last().open();
  seen.last().fail(0);
  assert.deepEqual(seen.statuses, ['connecting', 'open', 'lost']);
  assert.deepEqual([seen.sources.length, seen.timers.size], [1, 0]);
  seen.last().open();
  assert.equal(seen.statuses.at(-1), 'open');
});

test('when the browser has given up, a new stream starts after the last event, later each time', () => {
  const { seen, stream } = setUp();
  stream.start(1);
  seen.last().open();
  seen.last().message(7, 'progress');
  const waits = [];
  for (let i = 0; i < 3; i += 1) {
    seen.last().fail(2);
    waits.push([...seen.timers.values()][0].ms);
    seen.fire();
  }
  assert.deepEqual(waits, [750, 1500, 3000]);
  assert.equal(seen.urls.at(-1), 'v1/events?after=7');
  seen.last().open();
  seen.last().fail(2);
  assert.equal([...seen.timers.values()][0].ms, 750);
});

test('a page hidden for a minute closes the stream and resumes it', () => {
  const { seen, stream } = setUp();
  stream.start(1);
  seen.last().open();
  seen.last().message(9, 'progress');
  stream.setHidden(true);
  assert.equal([...seen.timers.values()][0].ms, HIDDEN_MS);
  seen.fire();
  assert.ok(seen.sources[0].closed);
  assert.equal(seen.statuses.at(-1), 'paused');
  stream.setHidden(false);
  assert.equal(seen.urls.at(-1), 'v1/events?after=9');
});

test('a page hidden for a moment keeps its stream', () => {
  const { seen, stream } = setUp();
  stream.start(1);
  stream.setHidden(true);
  stream.setHidden(false);
  assert.deepEqual([seen.timers.size, seen.sources.length], [0, 1]);
});

test('an old source that speaks late is not listened to', () => {
  const { seen, stream } = setUp();
  stream.start(1);
  const old = seen.last();
  stream.retryNow();
  old.message(5, 'job');
  old.onerror();
  assert.deepEqual([seen.events, seen.statuses], [[], ['connecting']]);
});

test('the waiting time has jitter and an upper bound', () => {
  assert.deepEqual([backoffMs(0, () => 0), backoffMs(0, () => 1), backoffMs(50, () => 1)], [500, 1000, 30000]);
});
