// Both languages say everything, with the same values, and write numbers in their own way.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { chooseLanguage, formatter, TEXTS, translator } from '../../web/src/i18n.js';

const SOURCES = new URL('../../web/src/', import.meta.url);
const holes = (text) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();

test('both languages have the same keys with the same values in them', () => {
  assert.deepEqual(Object.keys(TEXTS.de).sort(), Object.keys(TEXTS.en).sort());
  for (const [key, text] of Object.entries(TEXTS.en)) assert.deepEqual(holes(TEXTS.de[key]), holes(text), key);
});

test('every text is used, and every text used exists', () => {
  const files = [...readdirSync(SOURCES), ...readdirSync(new URL('views/', SOURCES)).map((name) => `views/${name}`)].filter((name) => name.endsWith('.js') && name !== 'i18n.js');
  const code = files.map((name) => readFileSync(new URL(name, SOURCES), 'utf8')).join('\n');
  const literal = new Set([...code.matchAll(/'([a-z]+(?:\.[a-z]+)+)'/g)].map((match) => match[1]));
  const prefixes = [...code.matchAll(/`([a-z]+(?:\.[a-z]+)*\.)\$\{/g)].map((match) => match[1]);
  for (const key of Object.keys(TEXTS.en)) assert.ok(literal.has(key) || prefixes.some((prefix) => key.startsWith(prefix)), `${key} is not used`);
  for (const [, key] of code.matchAll(/\bt\('([a-z.]+)'/g)) assert.ok(key in TEXTS.en, `${key} does not exist`);
});

test('values are filled in, an unknown key is an error', () => {
  assert.equal(translator('en')('jobs.epochs', { done: 2, all: 5 }), '2 of 5 epochs');
  assert.throws(() => translator('de')('no.such'), /no\.such/);
});

test('the language: the setting, then the browser, then English', () => {
  assert.equal(chooseLanguage('de', ['en-GB']), 'de');
  assert.equal(chooseLanguage('auto', ['fr-FR', 'de-AT', 'en']), 'de');
  assert.equal(chooseLanguage('auto', ['fr']), 'en');
});

test('numbers as each language writes them', () => {
  const [en, de] = [formatter('en'), formatter('de')];
  const plain = (text) => text.replace(/\s/g, ' ');
  assert.equal(en.percent(0.91525), '91.53%');
  assert.equal(plain(de.percent(0.91525)), '91,53 %');
  assert.deepEqual([en.whole(10000), de.whole(10000)], ['10,000', '10.000']);
  assert.deepEqual([en.loss(0.25), de.loss(0.25)], ['0.2500', '0,2500']);
  assert.equal(de.significant(4e-7), '4,0·10⁻⁷');
  assert.deepEqual([en.probability(0.99951), en.probability(0.00012), en.probability(0)], ['1.000', '1.2·10⁻⁴', '0.000']);
  assert.deepEqual([en.duration(5), en.duration(125), en.duration(7325)], ['5 s', '2 min 5 s', '2 h 2 min']);
});

test('what is missing is a dash', () => {
  const en = formatter('en');
  for (const value of [null, undefined, NaN, Infinity]) assert.equal(en.loss(value), '–');
  assert.equal(en.dateTime(null), '–');
});
