// Layers: from an epoch's columns to what is drawn and tabled.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gradientRatio, layerOption, layerRows, layerValues, QUANTITIES } from '../../web/src/layers.js';
import { SETTINGS } from '../../web/src/settings.js';

const LAYERS = {
  weights: { name: ['conv1', 'bn1', 'fc'], gradient_norm: [1e-6, 0.5, 2], weight_norm: [3, 4, 5], update_ratio: [1e-3, null, 2e-3] },
  activations: { name: ['conv1', 'act1'], mean: [0, 0.4], deviation: [1, 0.6], dead: [null, 0.25] },
};
const colors = { train: 'blue', test: 'orange', text: 'black', muted: 'gray', line: 'gray', grid: 'gray', surface: 'white', font: 'sans-serif' };
const input = (first, selected) => ({ first, selected, texts: { first: 'Epoch 1', selected: 'Epoch 5', layer: 'Layer' }, colors, format: String, formatAxis: String });

test('values in the order of the network, without what a layer does not have', () => {
  assert.deepEqual(layerValues(LAYERS, 'update_ratio'), [{ name: 'conv1', value: 1e-3 }, { name: 'fc', value: 2e-3 }]);
  assert.deepEqual(layerValues(LAYERS, 'dead'), [{ name: 'act1', value: 0.25 }]);
  assert.deepEqual(layerValues(null, 'dead'), []);
});

test('rows of the table keep what is missing', () => {
  assert.deepEqual(layerRows(LAYERS, 'activations'), [{ name: 'conv1', mean: 0, deviation: 1, dead: null }, { name: 'act1', mean: 0.4, deviation: 0.6, dead: 0.25 }]);
  assert.deepEqual(layerRows(null, 'weights'), []);
});

test('the vanishing gradient in one number', () => {
  assert.equal(gradientRatio(LAYERS), 5e-7);
  assert.equal(gradientRatio(null), null);
  assert.equal(gradientRatio({ weights: { name: ['a', 'b'], gradient_norm: [1, 0] } }), null);
});

test('two epochs are two lines, one epoch is one; a log axis has no zeros', () => {
  const other = { ...LAYERS, weights: { ...LAYERS.weights, gradient_norm: [0, 1, 1] } };
  const option = layerOption('gradient_norm', input(other, LAYERS));
  assert.deepEqual(option.series.map((line) => [line.id, line.data]), [['first', [null, 1, 1]], ['selected', [1e-6, 0.5, 2]]]);
  assert.equal(option.yAxis.type, 'log');
  assert.deepEqual(option.xAxis.data, ['conv1', 'bn1', 'fc']);
  assert.equal(layerOption('mean', input(LAYERS, LAYERS)).series.length, 1);
  assert.equal(layerOption('mean', input(LAYERS, LAYERS)).yAxis.type, 'value');
});

test('the settings offer exactly what can be drawn', () => {
  assert.deepEqual([...SETTINGS.layers.values].sort(), Object.keys(QUANTITIES).sort());
});
