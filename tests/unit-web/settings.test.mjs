// The hash is a link to a view: it reads back as what was written, and nonsense becomes the initial value.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatHash, parseHash } from '../../web/src/settings.js';

const JOB = { view: 'job', id: 'job_4fK2' };

test('a view with settings survives the way through the hash', () => {
  const settings = { ...parseHash('').settings, lang: 'de', theme: 'dark', epoch: 3, image: 7, inside: 'open', layer: 'layer1.0.conv1', map: 12, loss: 'log' };
  const hash = formatHash(JOB, settings);
  assert.equal(hash, '#/jobs/job_4fK2?lang=de&theme=dark&epoch=3&image=7&inside=open&layer=layer1.0.conv1&map=12&loss=log');
  assert.deepEqual(parseHash(hash), { route: JOB, settings });
});

test('initial values and settings of other views are left out', () => {
  assert.equal(formatHash({ view: 'jobs' }, parseHash('#/jobs/x?epoch=3&lang=auto').settings), '#/jobs');
  assert.equal(formatHash({ view: 'jobs' }, { epoch: 3, state: 'failed' }), '#/jobs?state=failed');
});

test('an empty hash is the list', () => {
  for (const hash of ['', '#', '#/', '#/jobs']) assert.deepEqual(parseHash(hash).route, { view: 'jobs', id: null });
});

test('what makes no sense is an unknown view or an initial value', () => {
  assert.equal(parseHash('#/jobs/a/b').route.view, 'unknown');
  assert.equal(parseHash('#/jobs/%3Cb%3E').route.view, 'unknown');
  assert.equal(parseHash('#/nothing').route.view, 'unknown');
  const { settings } = parseHash('#/jobs/x?epoch=-1&image=26&loss=cubic&lang=xx&layer=%3Cb%3E&inside=ajar');
  assert.deepEqual([settings.epoch, settings.image, settings.loss, settings.lang, settings.layer, settings.inside], [null, 1, 'linear', 'auto', null, 'closed']);
});
