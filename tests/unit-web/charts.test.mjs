// Chart options: the right points, no HTML, differences that do not rest on colour alone.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { curveOption, pointCount } from '../../web/src/charts.js';
import { summaryOf } from '../../web/src/state.js';
import { epoch } from './helpers.mjs';

const colors = { train: 'blue', validation: 'purple', test: 'orange', text: 'black', muted: 'gray', line: 'gray', grid: 'gray', surface: 'white', font: 'sans-serif' };
const texts = { train: 'Train', validation: 'Validation', test: 'Test', now: 'Now', epoch: 'Epoch' };
const input = (values) => ({ epochs: [1, 2].map((n) => summaryOf(epoch('a', n))), texts, colors, planned: 5, format: String, formatAxis: String, ...values });
const line = (option, id) => option.series.find((row) => row.id === id);

test('points are (epoch, value), and the axis has room for the epochs to come', () => {
  const option = curveOption('loss', input({}));
  assert.deepEqual(line(option, 'train').data, [[1, 1], [2, 0.5]]);
  assert.deepEqual(line(curveOption('accuracy', input({})), 'test').data, [[1, 0.41], [2, 0.42]]);
  assert.deepEqual([option.xAxis.min, option.xAxis.max], [0, 5]);
  assert.equal(pointCount(option, 'test'), 2);
});

test('the running loss goes on from the last epoch, only in the loss chart', () => {
  const live = [{ x: 2.2, loss: 0.45 }, { x: 2.4, loss: 0.4 }];
  assert.deepEqual(line(curveOption('loss', input({ live })), 'now').data, [[2, 0.5], [2.2, 0.45], [2.4, 0.4]]);
  assert.deepEqual(line(curveOption('loss', input({ live, epochs: [] })), 'now').data, [[2.2, 0.45], [2.4, 0.4]]);
  assert.equal(line(curveOption('accuracy', input({ live })), 'now'), undefined);
});

test('a validation line only where a validation set was measured', () => {
  const epochs = [summaryOf(epoch('a', 1)), summaryOf({ ...epoch('a', 2), validation: { loss: 0.7, accuracy: 0.4, top5: null } })];
  assert.deepEqual(line(curveOption('loss', input({ epochs })), 'validation').data, [[2, 0.7]]);
  assert.equal(line(curveOption('loss', input({})), 'validation'), undefined);
});

test('a loss that is not a number is no point', () => {
  const epochs = [summaryOf(epoch('a', 1)), { ...summaryOf(epoch('a', 2)), test: { loss: null, accuracy: 0.1 } }];
  assert.equal(pointCount(curveOption('loss', input({ epochs })), 'test'), 1);
});

test('train and test differ in dash and marker too', () => {
  const [train, testLine] = ['train', 'test'].map((id) => line(curveOption('loss', input({})), id));
  assert.notDeepEqual(train.lineStyle.type, testLine.lineStyle.type);
  assert.notEqual(train.symbol, testLine.symbol);
});

test('the tooltip is drawn in the canvas, and nothing moves by itself', () => {
  const option = curveOption('loss', input({}));
  assert.equal(option.tooltip.renderMode, 'richText');
  assert.equal(option.animation, false);
});

test('a log axis for the loss, never for the accuracy', () => {
  assert.equal(curveOption('loss', input({ logarithmic: true })).yAxis.type, 'log');
  assert.equal(curveOption('accuracy', input({ logarithmic: true })).yAxis.type, 'value');
});
