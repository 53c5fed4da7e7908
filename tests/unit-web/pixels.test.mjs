// Pictures from numbers: grey and coloured images, maps around zero.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { imageBytes, mapBytes, signedColor } from '../../web/src/pixels.js';

test('a grey image has the same value three times, a coloured one its own', () => {
  assert.deepEqual([...imageBytes([[[0, 255]]]).bytes], [0, 0, 0, 255, 255, 255, 255, 255]);
  const { width, height, bytes } = imageBytes([[[1], [2]], [[3], [4]], [[5], [6]]]);
  assert.deepEqual([width, height, ...bytes], [1, 2, 1, 3, 5, 255, 2, 4, 6, 255]);
});

test('zero is pale, both signs differ, and what is larger is stronger', () => {
  const [zero, low, high, half] = [0, -2, 2, 1].map((value) => signedColor(value, 2));
  assert.notDeepEqual(low, high);
  const distance = (color) => color.reduce((total, value, i) => total + Math.abs(value - zero[i]), 0);
  assert.ok(distance(high) > distance(half) && distance(half) > 0);
  assert.deepEqual(signedColor(5, 0), zero);
});

test('a map row by row', () => {
  const { width, height, bytes } = mapBytes([[0, 1], [2, -2], [0, 0]], 2);
  assert.deepEqual([width, height, bytes.length], [2, 3, 24]);
  assert.deepEqual([...bytes.slice(8, 12)], [...signedColor(2, 2), 255]);
});
