// What each layer does, from an epoch's columns to rows, series and chart options. No DOM.
import { axis, canvasTooltip } from './charts.js';

// Quantities that can be drawn: the group of columns they stand in, and whether they span decades.
export const QUANTITIES = {
  gradient_norm: { group: 'weights', decades: true },
  weight_norm: { group: 'weights', decades: true },
  update_ratio: { group: 'weights', decades: true },
  deviation: { group: 'activations', decades: true },
  mean: { group: 'activations', decades: false },
  dead: { group: 'activations', decades: false },
};

// [{name, value}] of one epoch's layers, in the order of the network; layers without the quantity are left out.
export function layerValues(layers, quantity) {
  const columns = layers?.[QUANTITIES[quantity].group];
  if (!columns) return [];
  return columns.name.map((name, i) => ({ name, value: columns[quantity][i] })).filter((row) => row.value !== null);
}

// Rows of a table: every column of a group beside the layer's name.
export function layerRows(layers, group) {
  const { name: names = [], ...columns } = layers?.[group] ?? {};
  return names.map((name, i) => ({ name, ...Object.fromEntries(Object.entries(columns).map(([key, values]) => [key, values[i]])) }));
}

// How much smaller the gradient is in the first layer with weights than in the last one; null where it cannot be said.
export function gradientRatio(layers) {
  const values = layerValues(layers, 'gradient_norm');
  if (values.length < 2 || !(values[values.length - 1].value > 0)) return null;
  return values[0].value / values[values.length - 1].value;
}

function series(id, { name, rows, color, dash, decades }) {
  return {
    id,
    name,
    type: 'line',
    data: rows.map((row) => (decades && !(row.value > 0) ? null : row.value)),
    symbol: id === 'first' ? 'emptyCircle' : 'circle',
    symbolSize: rows.length > 60 ? 0 : 6,
    color,
    lineStyle: { width: 2.25, type: dash, color },
    itemStyle: { color },
    emphasis: { disabled: true },
    animation: false,
  };
}

// first and selected: layers of two epochs; the line of the first is left out when both are the same epoch.
// texts: {first, selected, layer}; format and formatAxis as in curveOption.
export function layerOption(quantity, { first, selected, texts, colors, format, formatAxis }) {
  const { decades } = QUANTITIES[quantity];
  const rows = layerValues(selected, quantity);
  const lines = [series('selected', { name: texts.selected, rows, color: colors.test, dash: 'solid', decades })];
  if (first !== selected) {
    lines.unshift(series('first', { name: texts.first, rows: layerValues(first, quantity), color: colors.train, dash: [6, 4], decades }));
  }
  return {
    animation: false,
    textStyle: { fontFamily: colors.font },
    grid: { left: 8, right: 20, top: 16, bottom: 30, containLabel: true },
    tooltip: canvasTooltip({ colors, title: (items) => items[0].name, value: (item) => format(item.value) }),
    legend: { show: false },
    xAxis: {
      type: 'category',
      data: rows.map((row) => row.name),
      boundaryGap: false,
      ...axis(colors, { grid: false, name: texts.layer, nameLocation: 'middle', nameGap: 10 }),
      axisLabel: { show: false },
    },
    yAxis: { type: decades ? 'log' : 'value', scale: true, ...axis(colors, { grid: true, axisLabel: { formatter: formatAxis } }) },
    series: lines,
  };
}
