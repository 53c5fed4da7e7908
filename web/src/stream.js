// The one event stream of the page: opens it after a cursor, watches it, and opens it again when the browser gives up. No DOM:
// everything of the browser comes in through `browser`, so that tests can replace it.

const TYPES = ['job', 'progress', 'epoch'];
const CLOSED = 2; // EventSource.CLOSED: the browser will not try again by itself
const BACKOFF_FIRST_MS = 1000;
const BACKOFF_MAX_MS = 30000;
export const HIDDEN_MS = 60000;

// Full jitter: somewhere between half and the whole of a doubling delay.
export function backoffMs(failures, random) {
  const whole = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(failures, 10));
  return Math.round(whole * (0.5 + 0.5 * random()));
}

// handlers: onEvent({id, event, data}), onStatus('connecting' | 'open' | 'lost' | 'paused').
// browser: {EventSource, setTimeout, clearTimeout, random}.
export function createStream(handlers, browser) {
  let source = null;
  let cursor = 0;
  let failures = 0;
  let timer = null;
  let hiddenTimer = null;
  let wanted = false;

  function receive(event, message) {
    const id = Number(message.lastEventId);
    if (!Number.isSafeInteger(id) || id <= cursor) return;
    cursor = id;
    handlers.onEvent({ id, event, data: JSON.parse(message.data) });
  }

  function shut() {
    browser.clearTimeout(timer);
    timer = null;
    source?.close();
    source = null;
  }

  function failed() {
    handlers.onStatus('lost');
    if (source.readyState !== CLOSED) return; // the browser tries again by itself
    shut();
    timer = browser.setTimeout(connect, backoffMs(failures, browser.random));
    failures += 1;
  }

  function opened() {
    failures = 0;
    handlers.onStatus('open');
  }

  function connect() {
    shut();
    const mine = new browser.EventSource(`v1/events?after=${cursor}`);
    source = mine;
    mine.onopen = () => source === mine && opened();
    mine.onerror = () => source === mine && failed();
    for (const type of TYPES) mine.addEventListener(type, (message) => source === mine && receive(type, message));
  }

  function pause() {
    hiddenTimer = null;
    if (!wanted || source === null) return;
    shut();
    handlers.onStatus('paused');
  }

  return {
    // Starts (again) after the given event.
    start(after) {
      cursor = after;
      wanted = true;
      handlers.onStatus('connecting');
      connect();
    },
    stop() {
      wanted = false;
      shut();
    },
    // To be told of visibilitychange: a page hidden for a minute gives its connection back, and takes it up where it left.
    setHidden(hidden) {
      browser.clearTimeout(hiddenTimer);
      hiddenTimer = hidden ? browser.setTimeout(pause, HIDDEN_MS) : null;
      if (!hidden && wanted && source === null && timer === null) {
        handlers.onStatus('connecting');
        connect();
      }
    },
    // The reader does not want to wait for the next try.
    retryNow() {
      if (wanted) connect();
    },
  };
}
