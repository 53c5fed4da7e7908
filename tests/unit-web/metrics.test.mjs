// Confusion matrix and softmax, from numbers to what is shown.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { confusedClasses, confusionView, logShare, mostConfused, reportRows, softmaxView } from '../../web/src/metrics.js';

const CONFUSION = [[8, 2, 0], [1, 9, 0], [0, 5, 5]];
const NAMES = ['cat', 'dog', 'cow'];

test('the matrix: rows are the true class', () => {
  const view = confusionView(CONFUSION, NAMES);
  assert.deepEqual([view.total, view.correct], [30, 22]);
  assert.equal(view.rows[2].recall, 0.5);
  assert.deepEqual(view.rows[0].cells[1], { count: 2, predicted: 1, share: 0.2, correct: false });
});

test('a class without images has no recall and no share', () => {
  const [row] = confusionView([[0, 0], [0, 4]], []).rows;
  assert.deepEqual([row.recall, row.cells[0].share, row.name], [null, 0, '0']);
});

test('the most confused pairs, largest first', () => {
  const pairs = mostConfused(CONFUSION, NAMES, 2);
  assert.deepEqual(pairs.map((pair) => [pair.actualName, pair.predictedName, pair.count, pair.share]), [['cow', 'dog', 5, 0.5], ['cat', 'dog', 2, 0.2]]);
  assert.deepEqual(mostConfused([[3, 0], [0, 3]], NAMES, 4), []);
});

test('the most confused classes get their names', () => {
  assert.deepEqual(confusedClasses([{ class: 1, count: 8 }, { class: 2, count: 5 }, { class: 0, count: 3 }], NAMES, 2), [{ name: 'dog', count: 8 }, { name: 'cow', count: 5 }]);
});

test('the report: a row per class, then both averages over all images', () => {
  const report = { precision: [1, 0.5, 0], recall: [0.8, 0.9, 0], f1: [0.9, 0.6, 0], support: [10, 10, 0], macro: { precision: 0.5, recall: 0.57, f1: 0.5 }, weighted: { precision: 0.75, recall: 0.85, f1: 0.75 } };
  const rows = reportRows(report, NAMES);
  assert.deepEqual(rows.map((row) => row.key), ['class-0', 'class-1', 'class-2', 'macro', 'weighted']);
  assert.deepEqual(rows[1], { key: 'class-1', name: 'dog', precision: 0.5, recall: 0.9, f1: 0.6, support: 10 });
  assert.deepEqual(rows[4], { key: 'weighted', average: 'weighted', precision: 0.75, recall: 0.85, f1: 0.75, support: 20 });
});

test('the log axis runs from a millionth to one', () => {
  assert.equal(logShare(1), 1);
  assert.ok(Math.abs(logShare(1e-3) - 0.5) < 1e-12);
  assert.deepEqual([logShare(1e-6), logShare(1e-9), logShare(0), logShare(NaN), logShare(null)], [0, 0, 0, 0, 0]);
});

test('softmax: prediction, truth, and rows that are not numbers', () => {
  const [right, wrong, unlabelled, broken] = softmaxView([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5], [null, null]], [1, 1], NAMES);
  assert.deepEqual([right.predicted, right.correct, right.actualName], [1, true, 'dog']);
  assert.deepEqual([wrong.predicted, wrong.correct], [0, false]);
  assert.deepEqual([unlabelled.actual, unlabelled.correct, unlabelled.actualName], [null, null, null]);
  assert.deepEqual(broken.bars.map((bar) => bar.share), [0, 0]);
});
