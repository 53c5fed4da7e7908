// The page against the fixture: states that a real daemon does not give on demand, languages, sizes, accessibility.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { accessibility, chartPoints, counted, launch, live, openPage, paintedPixels } from './browser.mjs';
import { epochOf, Fixture } from './fixture.mjs';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

// Runs body with a page on a fresh fixture; by default nothing may go wrong in the page.
async function withPage({ hash = '', fixture = new Fixture(), trouble = false, ...options }, body) {
  await fixture.listen();
  const page = await openPage(browser, options);
  try {
    await page.goto(`${fixture.address}/${typeof hash === 'function' ? hash(fixture) : hash}`);
    await body(page, fixture);
    if (!trouble) assert.deepEqual(page.trouble, []);
  } finally {
    await page.context().close();
    await fixture.close();
  }
}
const liveJob = (fixture) => `#/jobs/${fixture.live.id}`;

test('without jobs the list says how to submit one', () => withPage({ fixture: new Fixture({ empty: true }) }, async (page, fixture) => {
  await page.getByRole('heading', { name: 'No jobs yet' }).waitFor();
  assert.match(await page.locator('.command').textContent(), new RegExp(`${fixture.address}/v1/jobs`));
}));

test('a server that cannot answer is said, and trying again works', () => withPage({ fixture: new Fixture({ broken: true }), trouble: true }, async (page, fixture) => {
  await page.getByText('the database could not be read').waitFor();
  fixture.broken = false;
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.locator('.job').first().waitFor();
  await live(page);
}));

test('the list shows every job with state, progress and accuracy, and moves', () => withPage({}, async (page, fixture) => {
  await live(page);
  await counted(page, '.job', 6);
  const row = page.locator(`[data-job="${fixture.live.id}"]`);
  await row.getByText('79.92%').waitFor();
  const width = () => row.locator('progress').evaluate((bar) => bar.value);
  const first = await width();
  fixture.progress(fixture.live, 300);
  await page.waitForFunction(([id, old]) => document.querySelector(`[data-job="${id}"] progress`).value > old, [fixture.live.id, first]);
  fixture.change(fixture.live, { state: 'succeeded', epochs_done: 8, ended: new Date().toISOString() });
  await row.getByText('Succeeded').waitFor();
}));

test('hostile text in a name stays text', () => withPage({}, async (page) => {
  await page.getByText('<b>plain</b> against residual').waitFor();
  assert.equal(await page.locator('.job b').count(), 0);
}));

test('the filter is in the address, and a new job appears only where it belongs', () => withPage({ hash: '#/jobs?state=failed' }, async (page, fixture) => {
  await live(page);
  await counted(page, '.job', 1);
  const job = fixture.addJob({ ...fixture.jobs[1], name: 'Another failure', created: new Date().toISOString(), id: 'job_new' });
  fixture.send('job', { ...job });
  await page.getByText('Another failure').waitFor();
  await page.getByRole('radio', { name: 'Active' }).check();
  await page.locator('.job[data-state="queued"]').first().waitFor();
  assert.match(page.url(), /state=active/);
  await counted(page, '.job', 3);
}));

test('a job page: curves grow with epochs and draw in the colours of train and test', () => withPage({ hash: liveJob }, async (page, fixture) => {
  await live(page);
  await page.waitForSelector('.chart[data-train-points="2"]');
  fixture.finishEpoch(fixture.live);
  await page.waitForSelector('.chart[data-kind="loss"][data-train-points="3"]');
  assert.equal(await chartPoints(page, 'accuracy', 'test'), 3);
  assert.ok(await paintedPixels(page, 'loss', 'train') > 100);
  assert.ok(await paintedPixels(page, 'accuracy', 'test') > 100);
  fixture.progress(fixture.live, 100);
  fixture.progress(fixture.live, 200);
  await page.waitForSelector('.chart[data-kind="loss"][data-now-points="3"]');
  assert.match(await page.locator('.chart[data-kind="loss"]').getAttribute('aria-label'), /Loss over 3 epochs/);
  await page.getByText('Training, step 200 of 469').waitFor();
}));

test('confusion matrix and softmax follow the latest epoch, or show the chosen one', () => withPage({ hash: liveJob }, async (page, fixture) => {
  await live(page);
  await page.waitForSelector('.testset[data-epoch="2"]');
  const cells = await page.locator('.confusion tbody td:not(.recall)').allTextContents();
  assert.equal(cells.reduce((sum, text) => sum + (Number(text.replace(',', '')) || 0), 0), 10000);
  assert.deepEqual(await page.locator('.softmax').evaluateAll((tables) => tables.map((table) => table.dataset.image)), ['1', '2', '3', '4', '5', '6']);
  fixture.finishEpoch(fixture.live);
  await page.waitForSelector('.testset[data-epoch="3"]');
  await page.locator('.epochs tbody a').first().click();
  await page.waitForSelector('.testset[data-epoch="1"]');
  assert.match(page.url(), /epoch=1/);
  await page.getByRole('button', { name: /Images from 20/ }).click();
  await page.waitForSelector('.softmax[data-image="25"]');
  assert.match(page.url(), /epoch=1&image=20/);
  fixture.finishEpoch(fixture.live);
  await page.locator('.epochs tbody tr').nth(3).waitFor();
  assert.equal(await page.locator('.testset').getAttribute('data-epoch'), '1');
  await page.getByRole('button', { name: 'Follow the latest' }).click();
  await page.waitForSelector('.testset[data-epoch="4"]');
}));

test('a link to an epoch and a language opens just that', () => withPage({ hash: (f) => `#/jobs/${f.jobs[0].id}?epoch=3&lang=de&loss=log` }, async (page) => {
  await page.getByRole('heading', { name: 'Konfusionsmatrix' }).waitFor();
  assert.equal(await page.locator('.testset').getAttribute('data-epoch'), '3');
  assert.equal(await page.locator('html').getAttribute('lang'), 'de');
  assert.ok(await page.getByLabel('Log', { exact: true }).isChecked());
}));

test('the language is the browser\'s, and can be switched', () => withPage({ locale: 'de-DE' }, async (page) => {
  await page.getByRole('heading', { name: 'Aufträge' }).waitFor();
  await page.getByLabel('Sprache').selectOption('en');
  await page.getByRole('heading', { name: 'Jobs', level: 1 }).waitFor();
  assert.match(page.url(), /lang=en/);
}));

test('report, most confused classes and validation: the numbers of the chosen epoch', () => withPage({ hash: (f) => `${liveJob(f)}?epoch=1` }, async (page, fixture) => {
  await live(page);
  const { test: tested } = epochOf(fixture.live, 1);
  const shirt = page.locator('.report [data-row="class-6"]');
  await shirt.waitFor();
  assert.deepEqual(await shirt.locator('td').allTextContents(), [tested.report.precision[6].toFixed(3), tested.report.recall[6].toFixed(3), tested.report.f1[6].toFixed(3), '1,000']);
  await counted(page, '.report .average', 2);
  await page.locator('.confused .count').first().waitFor();
  const errors = await page.locator('.confused .count').allTextContents();
  assert.deepEqual(errors, tested.most_confused.classes.slice(0, 4).map((row) => `${row.count.toLocaleString('en-GB')} errors`));
  await page.waitForSelector('.chart[data-kind="loss"][data-validation-points="2"]');
  assert.ok(await page.getByRole('columnheader', { name: 'Validation loss' }).isVisible());
}));

test('without a validation set there is nothing of it', () => withPage({ hash: (f) => `#/jobs/${f.jobs[0].id}` }, async (page) => {
  await page.waitForSelector('.chart[data-kind="loss"][data-test-points="5"]');
  assert.equal(await page.locator('.chart[data-kind="loss"]').getAttribute('data-validation-points'), '0');
  assert.equal(await page.locator('.epochs .optional:visible').count(), 0);
  assert.equal(await page.locator('.epochs .best:visible').count(), 0, 'the test set chooses no epoch');
}));

test('layers: drawn for the quantity in the address, tabled on demand, the vanishing gradient in words', () => withPage({ hash: (f) => `${liveJob(f)}?layers=dead` }, async (page) => {
  await live(page);
  await page.waitForSelector('.chart[data-quantity="dead"][data-points="19"] canvas');
  await page.getByRole('radio', { name: 'Gradient norm' }).check();
  await page.waitForSelector('.chart[data-quantity="gradient_norm"][data-points="20"]');
  assert.ok(!page.url().includes('layers='));
  await page.getByText('divided by that of the last: 2.9').waitFor();
  await page.getByText('All numbers').click();
  await page.waitForSelector('[data-group="weights"]');
  await counted(page, '[data-group="weights"] tbody tr', 20);
  assert.equal(await page.locator('[data-group="activations"] tbody tr').last().locator('td').last().textContent(), '–');
}));

test('inside: nothing is asked before it is opened; images, maps of a layer and filters are drawn', () => withPage({ hash: liveJob }, async (page) => {
  const asked = [];
  page.on('request', (request) => asked.push(new URL(request.url()).pathname.split('/').pop()));
  await live(page);
  await page.waitForSelector('.chart[data-kind="layers"] canvas');
  assert.ok(!asked.includes('maps') && !asked.includes('images'));
  await page.getByRole('heading', { name: 'Inside the network' }).click();
  await page.waitForSelector('.maps[data-layer="conv1"][data-maps="16"]');
  await page.waitForSelector('.filters[data-maps="16"]');
  await counted(page, '.thumb', 25);
  assert.ok(await page.locator('.maps canvas').first().evaluate((canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return new Set(data).size > 8;
  }));
  await page.getByText('With the weights of epoch 2.').waitFor();
  await page.getByLabel('Epoch', { exact: true }).fill('1');
  await page.getByText('those of epoch 1 are not kept').waitFor();
  await page.getByLabel('Layer', { exact: true }).selectOption('layer1.0.add');
  await page.waitForSelector('.maps[data-layer="layer1.0.add"]');
  await page.locator('.thumb[data-image="3"]').click();
  await page.waitForSelector('.thumb[data-image="3"][aria-pressed="true"]');
  assert.match(page.url(), /inside=open/);
  assert.match(page.url(), /layer=layer1\.0\.add/);
  assert.match(page.url(), /map=3/);
  assert.deepEqual(await accessibility(page), []);
}));

test('the network is drawn with its residual connection, and a layer leads to its maps', () => withPage({ hash: liveJob }, async (page) => {
  await live(page);
  await page.getByRole('heading', { name: 'Network', exact: true }).click();
  await page.waitForSelector('.network-picture svg');
  await counted(page, '.network-picture .layer', 7);
  await counted(page, '.network-picture .skips[data-from="act1"][data-to="layer1.0.add"]', 1);
  await page.locator('[data-layer="layer1.0.add"]').click();
  await page.waitForSelector('.maps[data-layer="layer1.0.add"]');
  assert.match(page.url(), /network=open/);
  assert.deepEqual(await accessibility(page), []);
}));

test('a finished job can be verified by a second run, and leaves files to take home', () => withPage({ hash: (f) => `#/jobs/${f.jobs[0].id}` }, async (page, fixture) => {
  await live(page);
  const [first] = fixture.jobs;
  await page.waitForSelector(`.files a[href="v1/jobs/${first.id}/weights/last"]`);
  assert.equal(await page.locator('.files a[href$="weights/best"]:visible').count(), 0);
  await page.getByRole('button', { name: 'Verify' }).click();
  await page.locator('dialog').getByRole('button', { name: 'Verify' }).click();
  await page.getByText('Is running again, to compare').waitFor();
  const second = fixture.jobs.find((job) => job.verifies === first.id);
  assert.match(page.url(), new RegExp(second.id));
  fixture.change(second, { state: 'succeeded', verification: { result: 'differs', epoch: 3, job: first.id } });
  await page.getByText('the weights differ from epoch 3 on').waitFor();
}));

test('devices: what each is, how a GPU feels, why one is out of use, and how it comes back', () => withPage({ hash: '#/devices' }, async (page, fixture) => {
  const [busy, drained] = fixture.devices;
  await page.locator(`[data-device="${busy.id}"]`).getByText('61 °C · 93% busy · 412 W · 4,100 MiB used').waitFor();
  await page.locator(`[data-device="${busy.id}"]`).getByText('cudnn 9.19.0 (f32, bf16, tf32)').waitFor();
  await page.locator(`[data-device="${busy.id}"]`).getByText('have not run its GPU code on hardware yet').waitFor();
  await page.locator('[data-device="cpu"]').getByText('ref cannot be used: the backend ref is not installed').waitFor();
  await page.locator('[data-device="cpu"]').getByText('No GPU: no NVIDIA driver').waitFor();
  const card = page.locator(`[data-device="${drained.id}"][data-state="drained"]`);
  await card.getByText('2 uncorrectable memory errors').waitFor();
  await counted(page, '.device-card button:visible', 1);
  assert.deepEqual(await accessibility(page), []);
  await card.getByRole('button', { name: 'Put back into use' }).click();
  await page.waitForSelector(`[data-device="${drained.id}"][data-state="ready"]`);
  await counted(page, '.device-card button:visible', 0);
}));

test('jobs of one preset are told apart by what they set of it', () => withPage({}, async (page, fixture) => {
  await live(page);
  const own = fixture.addJob({ state: 'queued', epochs_done: 0, created: new Date().toISOString(), spec: { ...fixture.jobs[0].spec, name: '', model: { preset: 'resnet20', downsampling: 'max_pool', depth: [3, 3, 5], overrides: [{ stage: 1, activation: 'sigmoid' }] } } });
  fixture.send('job', { ...own });
  await page.locator(`[data-job="${own.id}"]`).getByText('downsampling max_pool · depth 3-3-5 · overrides: 1 · f32').waitFor();
}));

test('a device that checks itself says so and shows no failure', () => withPage({ hash: '#/devices' }, async (page, fixture) => {
  const [first] = fixture.devices;
  Object.assign(first, { state: 'busy', job: null, reason: 'it checks itself before its first job' });
  await page.reload();
  await page.locator(`[data-device="${first.id}"]`).getByText('Checks itself').waitFor();
}));

test('devices follow the jobs: a job that moves has the list read again', () => withPage({ hash: '#/devices' }, async (page, fixture) => {
  await live(page);
  await page.waitForSelector('[data-device="cpu"][data-state="ready"]');
  fixture.devices[2].state = 'busy';
  fixture.devices[2].job = fixture.live.id;
  fixture.change(fixture.live, { device: 'cpu' });
  await page.waitForSelector('[data-device="cpu"][data-state="busy"]');
  await page.locator('[data-device="cpu"]').getByRole('link').click();
  await page.waitForSelector('.view-job');
}));

test('a GPU is named by the beginning of its id in the list, and has no threads to tell', () => withPage({}, async (page, fixture) => {
  await live(page);
  fixture.change(fixture.live, { device: fixture.devices[0].id, worker: { ...fixture.live.worker, backend: 'cudnn', backend_version: '9.19.0', threads: 1 } });
  await page.locator(`[data-job="${fixture.live.id}"] .device[title="${fixture.devices[0].id}"]`).getByText('GPU-11111111', { exact: true }).waitFor();
  await page.locator(`[data-job="${fixture.live.id}"]`).getByRole('link').click();
  await page.locator('.facts').first().getByText('cudnn 9.19.0, f32', { exact: true }).waitFor();
}));

test('the job of a GPU tells its state and the energy of its epochs', () => withPage({ hash: liveJob }, async (page, fixture) => {
  await live(page);
  const facts = page.locator('.facts').first();
  await facts.getByText('AMD EPYC 9B45').waitFor();
  assert.equal(await facts.getByText('Energy of the finished epochs').isVisible(), false);
  const gpu = { temperature_c: 58, utilization: null, power_w: 301.4, memory_used_bytes: null, energy_j: 1800 };
  fixture.send('progress', { job: fixture.live.id, epoch: 3, epochs: 8, phase: 'train', step: 100, steps: 469, loss: 0.3, images_per_second: 1912, seconds_left: 90, gpu });
  await facts.getByText('58 °C · 301 W').waitFor();
  for (const epoch of [1, 2]) fixture.send('epoch', { ...epochOf(fixture.live, epoch), gpu });
  await facts.getByText('1 Wh', { exact: true }).waitFor();
}));

test('why a job failed is said first, and its log is open', () => withPage({ hash: (f) => `#/jobs/${f.jobs[1].id}` }, async (page) => {
  await page.getByRole('heading', { name: 'Why it failed' }).waitFor();
  await page.getByText('became NaN in epoch 3').waitFor();
  await page.getByText('opened fashion-mnist').waitFor();
}));

test('cancel asks first; delete leads back to the list', () => withPage({ hash: liveJob }, async (page, fixture) => {
  await live(page);
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'Leave it as it is' }).click();
  await page.waitForSelector('dialog', { state: 'detached' });
  assert.equal(fixture.live.state, 'running');
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.locator('dialog').getByRole('button', { name: 'Cancel' }).click();
  await page.waitForSelector('.view-job[data-state="cancelled"]');
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.locator('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.waitForSelector('.view-jobs');
  assert.equal(await page.locator(`[data-job="${fixture.live.id}"]`).count(), 0);
}));

test('a new job: checked, refused with the field\'s name, sent', () => withPage({ hash: '#/submit', trouble: true }, async (page) => {
  await live(page);
  await page.getByRole('button', { name: 'Check' }).click();
  await page.getByText('Valid. 269,434 parameters, 469 steps per epoch, memory: about 150 MiB.').waitFor();
  await page.getByLabel('Job, as JSON').fill('{"dataset": "fashion-mnist", "model": "resnet20", "precision": "tf32"}');
  await page.getByRole('button', { name: 'Check' }).click();
  await page.getByText('memory: about 2,050 MiB (of a GPU).').waitFor();
  await page.getByLabel('Job, as JSON').fill('{"dataset": "fashion-mnist", "model": "resnet20", "epochs": 0}');
  await page.getByRole('button', { name: 'Submit' }).click();
  await page.locator('.problem code', { hasText: '/epochs' }).waitFor();
  await page.getByLabel('Job, as JSON').fill('{"dataset": "fashion-mnist", "model": "resnet20", "name": "from the page"}');
  await page.getByRole('button', { name: 'Submit' }).click();
  await page.getByRole('heading', { name: 'from the page' }).waitFor();
}));

test('a lost connection is said at once and forgotten when it is back', () => withPage({ hash: liveJob, trouble: true }, async (page, fixture) => {
  await live(page);
  const { port } = fixture;
  await fixture.close();
  await page.getByText('Connection lost').waitFor();
  fixture.progress(fixture.live, 400);
  await fixture.listen(port);
  await page.waitForSelector('.banner', { state: 'detached' });
  await page.getByText('Training, step 400 of 469').waitFor();
}));

test('a job that somebody else deletes is said to be gone', () => withPage({ hash: (f) => `#/jobs/${f.jobs[0].id}` }, async (page, fixture) => {
  await live(page);
  await page.waitForSelector('.softmax');
  const [{ id }] = fixture.jobs.splice(0, 1);
  fixture.send('job', { id, state: 'deleted' });
  await page.getByRole('heading', { name: 'There is no such job' }).waitFor();
}));

test('a job that is not there, and an address that is none', () => withPage({ hash: '#/jobs/job_gone', trouble: true }, async (page, fixture) => {
  await page.getByRole('heading', { name: 'There is no such job' }).waitFor();
  await page.goto(`${fixture.address}/#/nonsense`);
  await page.getByRole('heading', { name: 'There is no such page' }).waitFor();
}));

const VIEWS = { list: () => '', job: liveJob, failed: (f) => `#/jobs/${f.jobs[1].id}`, submit: () => '#/submit' };
for (const [name, hash] of Object.entries(VIEWS)) {
  for (const colorScheme of ['light', 'dark']) {
    test(`axe finds nothing: ${name}, ${colorScheme}`, () => withPage({ hash, colorScheme }, async (page) => {
      await live(page);
      if (name === 'job' || name === 'failed') await page.waitForSelector('.softmax');
      assert.deepEqual(await accessibility(page), []);
    }));
  }
  test(`fits a narrow screen: ${name}`, () => withPage({ hash: (f) => (name === 'job' ? `${liveJob(f)}?inside=open&network=open` : hash(f)), viewport: { width: 360, height: 740 }, locale: 'de-DE' }, async (page) => {
    await live(page);
    if (name === 'job' || name === 'failed') await page.waitForSelector('.chart canvas');
    if (name === 'job') await page.waitForSelector('.maps');
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  }));
}
