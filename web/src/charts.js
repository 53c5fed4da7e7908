// ECharts options for the curves: pure functions of numbers, texts and colours, so that tests can read them. No DOM.

// Names of the series, in drawing order. They differ in colour, dash and marker.
const SERIES = [
  { key: 'train', symbol: 'emptyCircle', dash: [6, 4] },
  { key: 'validation', symbol: 'emptyDiamond', dash: [2, 2] },
  { key: 'test', symbol: 'circle', dash: 'solid' },
];

export function axis(colors, extra) {
  return {
    axisLine: { lineStyle: { color: colors.line } },
    axisTick: { lineStyle: { color: colors.line } },
    axisLabel: { color: colors.muted, fontSize: 12, ...extra.axisLabel },
    splitLine: { show: extra.grid, lineStyle: { color: colors.grid } },
    nameTextStyle: { color: colors.muted, fontSize: 12, ...extra.nameTextStyle },
    name: extra.name,
    nameLocation: extra.nameLocation,
    nameGap: extra.nameGap,
  };
}

function series(kind, { key, symbol, dash }, { epochs, texts, colors }) {
  return {
    id: key,
    name: texts[key],
    type: 'line',
    data: epochs.filter((epoch) => epoch[key]).map((epoch) => [epoch.epoch, epoch[key][kind]]),
    symbol,
    symbolSize: epochs.length > 60 ? 0 : 7,
    showSymbol: true,
    color: colors[key],
    lineStyle: { width: 2.25, type: dash, color: colors[key] },
    itemStyle: { color: colors[key] },
    emphasis: { disabled: true },
    animation: false,
    z: key === 'test' ? 3 : 2,
  };
}

// The running loss of the epoch that trains now: thin, dotted, ends in an open ring.
function liveSeries({ epochs, live, texts, colors }) {
  const last = epochs[epochs.length - 1];
  const start = last && live.length ? [[last.epoch, last.train.loss]] : [];
  const points = live.map(({ x, loss }) => [x, loss]);
  return {
    id: 'now',
    name: texts.now,
    type: 'line',
    data: [...start, ...points],
    symbol: 'emptyCircle',
    symbolSize: (_, params) => (params.dataIndex === start.length + points.length - 1 ? 9 : 0),
    color: colors.train,
    lineStyle: { width: 1.5, type: [2, 3], color: colors.train },
    itemStyle: { color: colors.train },
    emphasis: { disabled: true },
    animation: false,
    z: 1,
  };
}

// A tooltip of all lines at a place. title(items) and value(item) write its text.
export function canvasTooltip({ colors, title, value }) {
  return {
    trigger: 'axis',
    renderMode: 'richText', // drawn in the canvas: no HTML, as the page's policy wants
    confine: true,
    transitionDuration: 0,
    backgroundColor: colors.surface,
    borderColor: colors.line,
    textStyle: { color: colors.text, fontSize: 13 },
    axisPointer: { type: 'line', lineStyle: { color: colors.muted, type: 'solid', width: 1 } },
    formatter: (items) => [title(items), ...items.map((item) => `${item.marker}${item.seriesName}  ${value(item)}`)].join('\n'),
  };
}

function epochTooltip({ colors, texts, format }) {
  const title = (items) => `${texts.epoch} ${Math.ceil(items[0].value[0])}`;
  return canvasTooltip({ colors, title, value: (item) => format(item.value[1]) });
}

// kind: 'loss' | 'accuracy'. epochs: summaries. live: [{x, loss}]. texts: {train, validation, test, now, epoch}.
// format(value) and formatAxis(value) write numbers as the language does.
export function curveOption(kind, input) {
  const { epochs, live = [], texts, colors, planned, logarithmic = false, formatAxis } = input;
  const lines = SERIES.filter((row) => row.key !== 'validation' || epochs.some((epoch) => epoch.validation)).map((row) => series(kind, row, input));
  if (kind === 'loss') lines.unshift(liveSeries({ epochs, live, texts, colors }));
  const last = epochs.length ? epochs[epochs.length - 1].epoch : 0;
  const yAxis = axis(colors, { grid: true, axisLabel: { formatter: formatAxis } });
  return {
    animation: false, // every frame is drawn by the reader's processor, which may be the one that trains
    textStyle: { fontFamily: colors.font },
    grid: { left: 8, right: 20, top: 16, bottom: 30, containLabel: true },
    tooltip: epochTooltip(input),
    legend: { show: false },
    xAxis: {
      type: 'value',
      min: 0,
      max: Math.max(planned, last, 1),
      minInterval: 1,
      ...axis(colors, { grid: false, name: texts.epoch, nameLocation: 'middle', nameGap: 28 }),
    },
    yAxis: {
      type: logarithmic && kind === 'loss' ? 'log' : 'value',
      scale: true,
      max: kind === 'accuracy' ? (value) => Math.min(1, Math.ceil(value.max * 20) / 20) : null,
      min: kind === 'accuracy' ? (value) => Math.max(0, Math.floor(value.min * 20) / 20) : null,
      ...yAxis,
    },
    series: lines,
  };
}

// Numbers of finite points per series, for the chart's description and for tests.
export function pointCount(option, id) {
  const found = option.series.find((line) => line.id === id);
  return found ? found.data.filter((point) => Number.isFinite(point[1])).length : 0;
}
