// Where the layers of a model are drawn: rows by depth, branches side by side, edges around what they skip. No DOM.

export const BOX = { width: 250, height: 56, gapX: 28, gapY: 22, margin: 16 };

const KINDS = {
  input: 'data', conv: 'weights', linear: 'weights', batch_norm: 'norm', group_norm: 'norm', activation: 'act', add: 'join', concat: 'join',
  max_pool: 'pool', avg_pool: 'pool', global_avg_pool: 'pool', shortcut: 'pool', flatten: 'data', dropout: 'act', softmax_cross_entropy: 'data',
};

const times = ([height, width]) => `${height}×${width}`;

// What a layer does, in a few words: "conv 3×3, stride 2", "relu", "max_pool 2×2, stride 2", "dropout 0.1".
export function opText({ op, attributes = {} }) {
  const { kernel, stride, dilation, groups = 1, kind, rate } = attributes;
  if (op === 'activation' && kind) return kind;
  if (op === 'dropout' && rate !== undefined) return `${op} ${rate}`;
  const parts = [kernel ? `${op} ${times(kernel)}` : op];
  if (stride && stride.some((value) => value > 1)) parts.push(stride[0] === stride[1] ? `stride ${stride[0]}` : `stride ${times(stride)}`);
  if (dilation && dilation.some((value) => value > 1)) parts.push(`dilation ${dilation[0]}`);
  if (groups > 1) parts.push(`groups ${groups}`);
  return parts.join(', ');
}

// The longest way from the input, in layers.
function depthsOf(nodes) {
  const depths = new Map();
  for (const node of nodes) depths.set(node.name, Math.max(0, ...node.inputs.map((name) => depths.get(name) + 1)));
  return depths;
}

// Rows of nodes; within a row a node stands where its first input stands, or in the next free column.
function place(nodes, depths) {
  const rows = new Map();
  const columns = new Map();
  for (const node of nodes) {
    const depth = depths.get(node.name);
    const taken = rows.get(depth) ?? new Set();
    let column = node.inputs.length ? Math.min(...node.inputs.map((name) => columns.get(name))) : 0;
    while (taken.has(column)) column += 1;
    rows.set(depth, taken.add(column));
    columns.set(node.name, column);
  }
  return columns;
}

// An edge that skips rows in its own column runs around the boxes between; the others go straight.
function pathOf(from, to, span) {
  const [x1, y1, x2, y2] = [from.x + BOX.width / 2, from.y + BOX.height, to.x + BOX.width / 2, to.y];
  if (span === 1 || from.x !== to.x) return `M${x1} ${y1}C${x1} ${y1 + BOX.gapY} ${x2} ${y2 - BOX.gapY} ${x2} ${y2}`;
  const side = from.x + BOX.width + BOX.gapX * 0.75;
  const [start, end] = [from.y + BOX.height / 2, to.y + BOX.height / 2];
  const right = from.x + BOX.width;
  return `M${right} ${start}C${side} ${start} ${side} ${start + 12} ${side} ${start + 24}V${end - 24}C${side} ${end - 12} ${side} ${end} ${right} ${end}`;
}

// {width, height, boxes: [{name, op, kind, x, y, ...}], edges: [{from, to, path, skips}]}. An edge skips when it goes around at
// least one layer: that is what makes a network residual.
export function layoutGraph(graph) {
  const depths = depthsOf(graph.nodes);
  const columns = place(graph.nodes, depths);
  const boxes = graph.nodes.map((node) => ({
    ...node,
    kind: KINDS[node.op] ?? 'act',
    x: BOX.margin + columns.get(node.name) * (BOX.width + BOX.gapX),
    y: BOX.margin + depths.get(node.name) * (BOX.height + BOX.gapY),
  }));
  const byName = new Map(boxes.map((box) => [box.name, box]));
  const edges = boxes.flatMap((to) => to.inputs.map((name) => {
    const span = depths.get(to.name) - depths.get(name);
    return { from: name, to: to.name, path: pathOf(byName.get(name), to, span), skips: span > 1 };
  }));
  const right = Math.max(...boxes.map((box) => box.x));
  const bottom = Math.max(...boxes.map((box) => box.y));
  return { width: right + BOX.width + BOX.gapX + BOX.margin, height: bottom + BOX.height + BOX.margin, boxes, edges };
}
