// The drawing of a model: depth is the row, branches stand side by side, a skipped layer is gone around.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BOX, layoutGraph, opText } from '../../web/src/graph.js';

const node = (name, op, inputs) => ({ name, op, inputs, shape: [16, 8, 8], parameters: 0 });
const RESIDUAL = { nodes: [node('input', 'input', []), node('conv1', 'conv', ['input']), node('act1', 'activation', ['conv1']), node('conv2', 'conv', ['act1']), node('add', 'add', ['conv2', 'act1'])] };
const overlap = (a, b) => Math.abs(a.x - b.x) < BOX.width && Math.abs(a.y - b.y) < BOX.height;

test('a chain is one column, in the order of the network', () => {
  const { boxes, edges } = layoutGraph({ nodes: RESIDUAL.nodes.slice(0, 4) });
  assert.equal(new Set(boxes.map((box) => box.x)).size, 1);
  assert.deepEqual(boxes.map((box) => box.y), [...boxes].map((box) => box.y).sort((a, b) => a - b));
  assert.deepEqual(edges.map((edge) => edge.skips), [false, false, false]);
});

test('a residual edge is marked and goes around the layer it skips', () => {
  const { edges, width } = layoutGraph(RESIDUAL);
  const [around] = edges.filter((edge) => edge.skips);
  assert.deepEqual([around.from, around.to], ['act1', 'add']);
  const xs = [...around.path.matchAll(/(-?[\d.]+) (-?[\d.]+)/g)].map((match) => Number(match[1]));
  assert.ok(Math.max(...xs) > BOX.margin + BOX.width && Math.max(...xs) <= width);
});

test('branches stand side by side, and no two boxes overlap', () => {
  const branches = [...RESIDUAL.nodes, node('a', 'conv', ['add']), node('b', 'conv', ['add']), node('c', 'conv', ['b']), node('join', 'concat', ['a', 'c'])];
  const { boxes, width } = layoutGraph({ nodes: branches });
  const [a, b] = ['a', 'b'].map((name) => boxes.find((box) => box.name === name));
  assert.equal(a.y, b.y);
  assert.notEqual(a.x, b.x);
  boxes.forEach((box, i) => boxes.slice(i + 1).forEach((other) => assert.ok(!overlap(box, other), `${box.name} ${other.name}`)));
  assert.ok(boxes.every((box) => box.x + BOX.width <= width));
});

test('what a layer does, in a few words', () => {
  const conv = { kernel: [3, 3], stride: [2, 2], dilation: [1, 1], groups: 4 };
  assert.equal(opText({ op: 'conv', attributes: conv }), 'conv 3×3, stride 2, groups 4');
  assert.equal(opText({ op: 'conv', attributes: { kernel: [1, 5], stride: [1, 2], dilation: [2, 2], groups: 1 } }), 'conv 1×5, stride 1×2, dilation 2');
  assert.equal(opText({ op: 'activation', attributes: { kind: 'sigmoid' } }), 'sigmoid');
  assert.equal(opText({ op: 'dropout', attributes: { rate: 0.1 } }), 'dropout 0.1');
  assert.equal(opText({ op: 'add' }), 'add');
});

test('every op has a kind to colour it by', () => {
  const { boxes } = layoutGraph(RESIDUAL);
  assert.deepEqual(boxes.map((box) => box.kind), ['data', 'weights', 'act', 'weights', 'join']);
});
