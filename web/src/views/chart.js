// One ECharts canvas: loads the library when first needed, follows size and options, says what it shows to those who cannot see it.
import { h, setAttributes } from '../dom.js';

const COLORS = ['train', 'validation', 'test', 'text', 'muted', 'line', 'grid', 'surface'];
let library = null;

// ECharts empties its element by innerHTML = '' before it draws. The page's policy refuses strings there; this lets exactly the
// empty one through and nothing else.
function allowEmptyHtml() {
  globalThis.trustedTypes?.createPolicy('default', { createHTML: (html) => (html === '' ? html : null) });
}

function loadLibrary() {
  if (!library) {
    allowEmptyHtml();
    library = import('../../vendor/echarts.esm.min.js');
  }
  return library;
}

// The style sheet's colours as a canvas understands them: a canvas knows no CSS variables.
export function readColors(node) {
  const probe = h('span', { hidden: true });
  node.append(probe);
  const colors = {};
  for (const name of COLORS) {
    probe.style.color = `var(--${name})`;
    colors[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  colors.font = getComputedStyle(node).fontFamily;
  return colors;
}

// onFailed() is called once when the library cannot be loaded.
export function chart(onFailed) {
  const node = h('div', { class: 'chart', role: 'img' });
  let canvas = null;
  let waiting = null;
  let closed = false;

  function draw({ option, points }) {
    canvas.setOption(option, { replaceMerge: ['series'] });
    setAttributes(node, points);
  }

  async function open() {
    try {
      const echarts = await loadLibrary();
      if (closed) return;
      canvas = echarts.init(node, null, { renderer: 'canvas' });
      new ResizeObserver(() => closed || canvas.resize()).observe(node);
      draw(waiting);
    } catch (error) {
      console.warn('ECharts could not be loaded', error);
      if (!closed) onFailed();
    }
  }

  return {
    node,
    // label says in words what the chart shows; points are data-* attributes that are set when it is drawn.
    set(option, label, points) {
      const first = waiting === null;
      waiting = { option, points };
      setAttributes(node, { 'aria-label': label });
      if (canvas) draw(waiting);
      else if (first) open();
    },
    destroy() {
      closed = true;
      canvas?.dispose();
    },
  };
}
