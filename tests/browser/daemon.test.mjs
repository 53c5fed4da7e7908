// The whole way: a job submitted to the real daemon trains, and the page in a real browser shows it happen.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { accessibility, chartPoints, counted, launch, live, openPage, paintedPixels } from './browser.mjs';
import { Daemon } from './daemon.mjs';

const JOB = { dataset: 'shapes', model: 'lenet5', train_limit: 512, test_limit: 256, epochs: 4 };
const SURVIVOR_EPOCHS = 20;
const TRAINING_MS = 120000;

let browser;
let daemon;
before(async () => { [browser, daemon] = await Promise.all([launch(), Daemon.create()]); });
after(async () => { await Promise.all([browser?.close(), daemon?.close()]); });

async function withPage(body, options = {}) {
  const page = await openPage(browser, options);
  try {
    await page.goto(daemon.address);
    await body(page);
  } catch (error) {
    console.error(`page: ${page.trouble.join('\n')}\ndaemon:\n${daemon.log}`);
    throw error;
  } finally {
    await page.context().close();
  }
}

// Notes every value that an attribute of the first match takes from now on.
const watch = (page, selector, attribute) => page.evaluate(([css, name]) => {
  const seen = [];
  const look = () => {
    const value = document.querySelector(css)?.getAttribute(name) ?? null;
    if (value !== null && seen.at(-1) !== value) seen.push(value);
  };
  look();
  new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true });
  window.seen = { ...window.seen, [name]: seen };
}, [selector, attribute]);

const sum = (texts) => texts.reduce((total, text) => total + (Number(text.replace(/,/g, '')) || 0), 0);

test('a job submitted by HTTP appears, trains and grows its curves, and every number agrees with the API', () => withPage(async (page) => {
  await page.getByRole('heading', { name: 'No jobs yet' }).waitFor();
  await live(page);
  const job = await daemon.submit({ ...JOB, name: 'seen in a browser' });
  await page.getByRole('link', { name: 'seen in a browser' }).click();
  await page.waitForSelector('.view-job[data-state]');
  await watch(page, '.view-job', 'data-state');
  await watch(page, '.chart[data-kind="loss"]', 'data-test-points');
  await page.waitForSelector('.view-job[data-state="succeeded"]', { timeout: TRAINING_MS });
  await page.waitForSelector('.chart[data-kind="loss"][data-test-points="4"]');

  const { 'data-state': states, 'data-test-points': points } = await page.evaluate(() => window.seen);
  assert.ok(states.includes('running'), `states seen: ${states}`);
  assert.ok(points.length >= 2, `numbers of points seen: ${points}`);
  assert.equal(await chartPoints(page, 'accuracy', 'train'), 4);
  assert.ok(await paintedPixels(page, 'loss', 'test') > 100);

  const epoch = await daemon.request('GET', `/v1/jobs/${job.id}/epochs/4`);
  await counted(page, '.epochs tbody tr', 4);
  const percent = `${(100 * epoch.test.accuracy).toFixed(2)}%`;
  await page.locator('.now').getByText(percent).waitFor();
  assert.equal(sum(await page.locator('.confusion tbody td:not(.recall)').allTextContents()), 256);
  assert.equal(Number(await page.locator('.confusion').getAttribute('data-correct')), Math.round(256 * epoch.test.accuracy));
  await counted(page, '.softmax', 6);
  const { items } = await daemon.request('GET', '/v1/datasets');
  const { classes } = items.find((item) => item.name === 'shapes');
  await page.locator('.softmax').first().getByText(`True class: ${classes[epoch.test.labels[0]]}`).waitFor();
  await page.getByRole('heading', { name: 'Log' }).click();
  await page.waitForFunction(() => document.querySelector('.log').textContent.length > 40);
  assert.deepEqual(await accessibility(page), []);
  assert.deepEqual(page.trouble, []);
}));

test('inside the network of a real job: its graph, test images, maps of a layer and first filters', () => withPage(async (page) => {
  await page.getByRole('link', { name: 'seen in a browser' }).click();
  await page.waitForSelector('.chart[data-kind="layers"][data-quantity="gradient_norm"] canvas');
  await page.getByRole('heading', { name: 'Network', exact: true }).click();
  await page.waitForSelector('.network-picture [data-layer="conv1"]');
  await page.getByRole('heading', { name: 'Inside the network' }).click();
  await page.waitForSelector('.maps[data-layer="conv1"][data-maps="6"]');
  await page.waitForSelector('.filters[data-maps="18"]');
  await counted(page, '.thumb', 25);
  await page.getByLabel('Layer', { exact: true }).selectOption('pool1');
  await page.waitForSelector('.maps[data-layer="pool1"][data-maps="6"]');
  assert.deepEqual(page.trouble, []);
}));

test('every example of a new job is valid for the real daemon', () => withPage(async (page) => {
  await page.getByRole('link', { name: 'New job' }).click();
  const examples = page.getByLabel('Begin with');
  await examples.waitFor();
  const n = await examples.locator('option').count();
  assert.ok(n >= 7);
  for (let i = 0; i < n; i += 1) {
    await examples.selectOption(String(i));
    const { parameters } = await daemon.request('POST', '/v1/jobs?dry_run=true', JSON.parse(await page.getByLabel('Job, as JSON').inputValue()));
    assert.ok(parameters > 1000, `example ${i}`);
  }
  await page.getByRole('button', { name: 'Check' }).click();
  await page.getByText('Valid.').waitFor();
}));

test('a page opened afterwards shows the same, in German', () => withPage(async (page) => {
  await page.getByRole('heading', { name: 'Aufträge' }).waitFor();
  await page.locator('.job[data-state="succeeded"] .figure', { hasText: '%' }).waitFor();
  await page.getByRole('link', { name: 'seen in a browser' }).click();
  await page.waitForSelector('.chart[data-kind="loss"][data-test-points="4"]');
  await page.getByRole('heading', { name: 'Konfusionsmatrix' }).waitFor();
  assert.equal(await page.locator('html').getAttribute('lang'), 'de');
  assert.deepEqual(page.trouble, []);
}, { locale: 'de-DE' }));

test('cancel and delete from the page', () => withPage(async (page) => {
  await live(page);
  const job = await daemon.submit({ ...JOB, epochs: 5000, name: 'too long' });
  await page.getByRole('link', { name: 'too long' }).click();
  await page.waitForSelector('.view-job[data-state="running"]', { timeout: TRAINING_MS });
  await page.waitForSelector('.chart[data-kind="loss"]', { timeout: TRAINING_MS });
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.locator('dialog').getByRole('button', { name: 'Cancel' }).click();
  await page.waitForSelector('.view-job[data-state="cancelled"]', { timeout: TRAINING_MS });
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.locator('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.waitForSelector('.view-jobs');
  await page.waitForFunction((id) => !document.querySelector(`[data-job="${id}"]`), job.id);
  assert.deepEqual(page.trouble, []);
}));

test('the page\'s own form checks and submits', () => withPage(async (page) => {
  await live(page);
  await page.goto(`${daemon.address}/#/submit`);
  const text = page.getByLabel('Job, as JSON');
  await text.fill(JSON.stringify({ ...JOB, epochs: 1, name: 'from the form' }));
  await page.getByRole('button', { name: 'Check' }).click();
  await page.getByText('Valid.').waitFor();
  assert.deepEqual(page.trouble, []);
  await text.fill(JSON.stringify({ ...JOB, epoch: 1 }));
  await page.getByRole('button', { name: 'Check' }).click();
  await page.locator('.problem code', { hasText: '/epoch' }).waitFor();
  await text.fill(JSON.stringify({ ...JOB, epochs: 1, name: 'from the form' }));
  await page.getByRole('button', { name: 'Submit' }).click();
  await page.getByRole('heading', { name: 'from the form' }).waitFor();
  await page.waitForSelector('.view-job[data-state="succeeded"]', { timeout: TRAINING_MS });
}));

test('a killed daemon is said at once; when it is back the page goes on, and the job too', () => withPage(async (page) => {
  await live(page);
  const job = await daemon.submit({ ...JOB, epochs: SURVIVOR_EPOCHS, name: 'survives' });
  await page.getByRole('link', { name: 'survives' }).click();
  await page.waitForSelector('.chart[data-kind="loss"]', { timeout: TRAINING_MS });
  await daemon.kill();
  await page.getByText('Connection lost').waitFor();
  await daemon.restart();
  await page.waitForSelector('.banner', { state: 'detached' });
  await page.waitForSelector('.view-job[data-state="succeeded"]', { timeout: TRAINING_MS });
  await page.waitForSelector(`.chart[data-kind="loss"][data-test-points="${SURVIVOR_EPOCHS}"]`);
  assert.equal((await daemon.request('GET', `/v1/jobs/${job.id}`)).epochs_done, SURVIVOR_EPOCHS);
}));
